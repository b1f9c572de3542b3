//! How many rows a metric of single events may have: `collectors.<metric>.max_rows_per_second`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// So many rows a second; 0 for as many as there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxRows(u32);

impl MaxRows {
    /// Of a metric without a budget, and of one whose budget is switched off.
    pub const UNLIMITED: MaxRows = MaxRows(0);

    /// More than a file system or an output takes from one metric for long.
    const MOST: u32 = 1_000_000;

    pub fn get(self) -> u32 {
        self.0
    }

    /// The time in which a row is earned; none without a budget.
    pub fn row_time(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(1) / self.0)
    }
}

impl Default for MaxRows {
    fn default() -> MaxRows {
        MaxRows(1_000)
    }
}

impl TryFrom<u32> for MaxRows {
    type Error = String;

    fn try_from(rows: u32) -> Result<MaxRows, String> {
        if rows > MaxRows::MOST {
            return Err(format!(
                "max_rows_per_second is {rows}, at most {} are counted; 0 is no limit",
                MaxRows::MOST
            ));
        }
        Ok(MaxRows(rows))
    }
}

impl<'de> Deserialize<'de> for MaxRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MaxRows, D::Error> {
        MaxRows::try_from(u32::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::MaxRows;

    #[test]
    fn none_is_no_limit_and_what_no_node_could_use_is_refused() {
        let parse = |text: &str| serde_json::from_str::<MaxRows>(text).map_err(|e| e.to_string());
        assert_eq!(parse("0"), Ok(MaxRows::UNLIMITED));
        assert_eq!(MaxRows::UNLIMITED.row_time(), None);
        assert_eq!(parse("250").unwrap().row_time(), Some(Duration::from_millis(4)));
        assert!(parse("1000000").is_ok());
        assert!(parse("1000001").unwrap_err().contains("at most 1000000"));
        assert!(parse("-1").is_err());
    }
}
