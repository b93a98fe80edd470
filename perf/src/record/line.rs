//! One measured value.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;
use crate::target::{Driver, Target};

/// One measurement of one target in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub measure: String,
    pub scenario: String,
    pub driver: String,
    pub target: String,
    pub round: u32,
    pub value: f64,
    pub unit: String,
    /// Seconds since 1970.
    pub at: u64,
    /// Whatever helps to judge the value.
    pub detail: Value,
}

impl Line {
    /// Without its value yet.
    pub fn new(measure: &str, scenario: &str, driver: Driver, target: Target, round: u32) -> Self {
        Self {
            measure: measure.into(),
            scenario: scenario.into(),
            driver: driver.name().into(),
            target: target.name().into(),
            round,
            value: 0.0,
            unit: String::new(),
            at: super::machine::unix_seconds(),
            detail: Value::Null,
        }
    }

    /// With its value.
    ///
    /// # Errors
    /// Never, for the details that exist.
    pub fn with(
        mut self,
        value: f64,
        unit: &str,
        detail: &impl Serialize,
    ) -> Result<Self, Failure> {
        self.value = value;
        self.unit = unit.into();
        self.detail = serde_json::to_value(detail)?;
        Ok(self)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, measure, scenario, driver, target, value, unit, .. } = self;
        write!(f, "round {round}: {measure} {scenario} {driver} {target}: {value:.2} {unit}")
    }
}
