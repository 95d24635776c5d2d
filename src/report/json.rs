//! The run record as it is, indented, for programs.

use super::{RenderOptions, Report};
use crate::record::RunRecord;

/// `report.json`.
pub(super) struct RecordJson;

impl Report for RecordJson {
    fn id(&self) -> &'static str {
        "json"
    }

    fn file_name(&self) -> &'static str {
        "report.json"
    }

    fn render(&self, record: &RunRecord, _: &RenderOptions) -> Vec<u8> {
        // Keys are text and non-finite measurements are written as text.
        let mut bytes = serde_json::to_vec_pretty(record).expect("a record serializes");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn reads_back_as_the_same_record() {
        let record = fixture::sample();
        let bytes = RecordJson.render(&record, &RenderOptions::default());
        let back: RunRecord = serde_json::from_slice(&bytes).expect("our own JSON");
        assert_eq!(back, record);
    }
}
