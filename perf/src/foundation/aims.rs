//! What the foundation is held to.

/// Bounds on a median; whichever are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aim {
    pub value_max: Option<f64>,
    /// Of the paired ratio to the floor.
    pub ratio_max: Option<f64>,
    /// Of the paired difference from the floor.
    pub above_floor_max: Option<f64>,
}

/// The bounds of a measurement.
pub fn aim(measure: &str, scenario: &str) -> Aim {
    let none = Aim::default();
    let ratio = |most| Aim { ratio_max: Some(most), ..none };
    let value = |most| Aim { value_max: Some(most), ..none };
    match (measure, scenario) {
        ("instructions", "unary-1k-c16") => value(14_000.0),
        ("instructions", "event-alone") => Aim { above_floor_max: Some(1_000.0), ..value(3_200.0) },
        ("instructions", "event-in-8") => value(700.0),
        ("memory", "idle") => value(16.0 * 1024.0),
        ("memory", "idle-tls") => value(64.0 * 1024.0),
        ("cpu", "paced-64x250" | "paced-200x20") => ratio(1.25),
        ("cpu", name) if name.ends_with("escaped") => ratio(1.6),
        ("cpu", name) if name.starts_with("unary") => ratio(1.3),
        _ => none,
    }
}
