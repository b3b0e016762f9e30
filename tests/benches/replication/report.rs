//! Figures from several runs.

/// Several measurements of the same thing.
pub(crate) struct Figure {
    pub(crate) median: f64,
}

impl Figure {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2] }
    }
}

/// Ours to theirs, as it is printed.
pub(crate) fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 { format!("{:.2}", ours / theirs) } else { "-".to_owned() }
}
