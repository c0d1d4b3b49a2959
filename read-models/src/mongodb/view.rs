//! The view of a read model, for people: named like it with `_` for `-`, it shows the live collection without personal
//! fields, partial rows merged.

use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

use super::{HIDDEN_MICROS, HIDDEN_PARTITION, HIDDEN_POSITION, HIDDEN_UPDATED_AT};
use crate::sql::Layout;
use crate::{ColumnType, Error, Generation, Merge};

/// Makes the view show this generation. It is changed in place where there is one already, so that nobody finds it missing.
pub(super) async fn show(
    database: &Database,
    generation: &Generation,
    layout: &Layout,
) -> Result<(), Error> {
    let (view, table) = (generation.model.replace('-', "_"), &generation.table);
    let pipeline = pipeline(layout);
    match shown(database, &view).await? {
        Some((on, by)) if on == *table && by == pipeline => return Ok(()),
        Some(_) => {
            let change = doc! { "collMod": &view, "viewOn": table, "pipeline": pipeline.clone() };
            let changed = database.run_command(change).await;
            if changed.is_ok()
                && shown(database, &view)
                    .await?
                    .is_some_and(|(on, _)| on == *table)
            {
                return Ok(());
            }
            // Not every server that speaks the protocol changes a view.
            database.collection::<Document>(&view).drop().await?;
        }
        None => {}
    }
    let create = doc! { "create": view, "viewOn": table, "pipeline": pipeline };
    database.run_command(create).await?;
    Ok(())
}

/// What a view shows, and how.
async fn shown(database: &Database, view: &str) -> Result<Option<(String, Vec<Document>)>, Error> {
    let found: Vec<_> = database
        .list_collections()
        .filter(doc! { "name": view, "type": "view" })
        .await?
        .try_collect()
        .await?;
    Ok(found.into_iter().next().map(|found| {
        let options = found.options;
        (
            options.view_on.unwrap_or_default(),
            options.pipeline.unwrap_or_default(),
        )
    }))
}

fn pipeline(layout: &Layout) -> Vec<Document> {
    if layout.shared {
        return summed(layout);
    }
    let personal = layout
        .columns
        .iter()
        .filter(|column| column.column_type == ColumnType::Personal)
        .map(|column| column.name.as_str());
    let hidden: Document = personal
        .chain([HIDDEN_PARTITION, HIDDEN_MICROS])
        .map(|name| (name.to_owned(), Bson::Int32(0)))
        .collect();
    vec![doc! { "$project": hidden }]
}

fn summed(layout: &Layout) -> Vec<Document> {
    let field = |name: &str| Bson::String(format!("${name}"));
    let key: Document = layout
        .key
        .iter()
        .map(|column| (column.name.clone(), field(&column.name)))
        .collect();
    let mut group = doc! { "_id": key };
    for column in &layout.columns {
        let together = match column.merge() {
            Merge::Sum => "$sum",
            Merge::Min => "$min",
            Merge::Max => "$max",
        };
        group.insert(&column.name, doc! { together: field(&column.name) });
    }
    for name in [HIDDEN_POSITION, HIDDEN_UPDATED_AT] {
        group.insert(name, doc! { "$max": field(name) });
    }
    vec![
        doc! { "$group": group },
        doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", "$_id"] } },
    ]
}
