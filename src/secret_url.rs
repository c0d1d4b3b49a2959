//! The URL of a store, a broker or a mail server, with a password in it or not. It refuses to show that.

use std::path::PathBuf;

/// A URL that may hold a password, so it shows itself without one.
#[derive(Clone)]
pub struct Url(String);

impl Url {
    /// This text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The URL, password included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file of an `sqlite:` URL.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        let path = self.0.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        Some(PathBuf::from(path.split('?').next().unwrap_or(path)))
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str(&self.0);
        };
        // What follows a `?` may be a password as well.
        let (place, query) = match rest.split_once('?') {
            Some((place, _)) => (place, "?…"),
            None => (rest, ""),
        };
        match place.rsplit_once('@') {
            Some((_, host)) => write!(f, "{scheme}://…@{host}{query}"),
            // The `?` was one of the password, or the `@` is one of what follows: nobody knows.
            None if rest.contains('@') => write!(f, "{scheme}://…"),
            None => write!(f, "{scheme}://{place}{query}"),
        }
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_itself_without_its_password() {
        let url = Url::new("postgres://ada:s3cret@host:5432/db".into());
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://…@host:5432/db postgres://…@host:5432/db"
        );
        let url = Url::new("postgres://host/db?user=ada&password=s3cret".into());
        assert_eq!(url.to_string(), "postgres://host/db?…");
        for secret in [
            "postgres://ada:s3?cret@host/db",
            "postgres://host/db?password=s3@cret",
        ] {
            assert_eq!(Url::new(secret.into()).to_string(), "postgres://…");
        }
    }
}
