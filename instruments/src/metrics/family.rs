//! One metric with labels: a member for each combination of their values. It refuses to grow without a bound: what comes
//! after the bound shares one member.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::exposition::{Page, labelled};
use super::histogram::Cells;
use super::{About, Kind, Metric, about};

/// The most members of a family.
const MOST: usize = 2_000;
/// The labels' values of what comes after these.
const OTHER: &str = "(other)";

/// What a family is made of.
pub trait Member: Default + Send + Sync {
    /// What it is to Prometheus.
    const KIND: Kind;

    #[doc(hidden)]
    fn write(&self, page: &mut Page<'_>, labels: &str);
}

/// A metric with labels.
#[derive(Debug)]
pub struct Family<M> {
    about: About,
    /// By the labels as they are shown.
    members: RwLock<BTreeMap<String, Arc<M>>>,
}

impl<M: Member> Family<M> {
    /// Without members.
    pub const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self {
            about: about(name, M::KIND, help, labels),
            members: RwLock::new(BTreeMap::new()),
        }
    }

    /// The member with these labels' values, in the order of the labels.
    fn member(&self, values: &[&str]) -> Arc<M> {
        let labels = labelled(self.about.labels, values);
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(&labels) {
            return Arc::clone(member);
        }
        drop(members);
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let labels = if members.len() < MOST {
            labels
        } else {
            labelled(self.about.labels, &vec![OTHER; self.about.labels.len()])
        };
        Arc::clone(members.entry(labels).or_default())
    }
}

impl Family<AtomicU64> {
    /// One more with these labels' values.
    pub fn add(&self, values: &[&str]) {
        self.member(values).fetch_add(1, Ordering::Relaxed);
    }
}

impl Family<Cells> {
    /// One with these labels' values that took so long.
    pub fn took(&self, values: &[&str], time: Duration) {
        self.member(values).took(time);
    }
}

impl<M: Member> Metric for Family<M> {
    fn about(&self) -> &About {
        &self.about
    }

    fn write(&self, page: &mut Page<'_>) {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        for (labels, member) in &*members {
            member.write(page, labels);
        }
    }
}

impl<M: Member> Family<M> {
    /// How many members there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
