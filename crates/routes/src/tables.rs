//! The names of routing tables.

use std::collections::BTreeMap;

use crate::TableId;

/// Names of tables, for people; a table may have several, of which the first is shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    names: Vec<(String, TableId)>,
    /// Where the first name of each table is: every one of many routes is shown with it.
    first: BTreeMap<TableId, usize>,
}

impl Tables {
    /// The first name of the table.
    pub fn name(&self, table: TableId) -> Option<&str> {
        self.first.get(&table).map(|first| self.names[*first].0.as_str())
    }

    /// Every name, in the order of declaration.
    pub fn iter(&self) -> std::slice::Iter<'_, (String, TableId)> {
        self.names.iter()
    }

    /// The table of that name.
    pub fn number(&self, name: &str) -> Option<TableId> {
        self.names.iter().find(|(declared, _)| declared == name).map(|(_, table)| *table)
    }
}

impl From<Vec<(String, TableId)>> for Tables {
    fn from(names: Vec<(String, TableId)>) -> Self {
        let mut first = BTreeMap::new();
        for (place, (_, table)) in names.iter().enumerate() {
            first.entry(*table).or_insert(place);
        }
        Self { names, first }
    }
}

impl<'a> IntoIterator for &'a Tables {
    type Item = &'a (String, TableId);
    type IntoIter = std::slice::Iter<'a, (String, TableId)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
