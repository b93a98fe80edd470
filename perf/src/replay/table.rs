//! Runs side by side, on paper.

use std::fmt::Write;

use super::summary::Summary;

/// Times in seconds or milliseconds, as one reads them.
fn time(ms: f64) -> String {
    match ms {
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 10_000.0 => format!("{:.2} s", ms / 1e3),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

/// One line for each (name, summary).
pub fn table(rows: &[(String, Summary)]) -> String {
    let mut text = String::from(
        "| policy | TTFT p50 | p90 | p99 | between tokens p50 | p99 | hit rate | of pooled | of endless | \
         good | work max/mean | queue max/mean | refused | failed |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, run) in rows {
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {:.2} % | {:.1} % | {:.1} % | {:.1} % | {:.2} | {:.2} | {} | {} |",
            time(run.ttft_ms.p50),
            time(run.ttft_ms.p90),
            time(run.ttft_ms.p99),
            time(run.itl_ms.p50),
            time(run.itl_ms.p99),
            run.hit_rate * 100.0,
            run.of_pooled * 100.0,
            run.of_endless * 100.0,
            run.good * 100.0,
            run.imbalance_work,
            run.imbalance_queued,
            run.refused,
            run.failed,
        );
    }
    text
}

/// What each GPU did, in one line for each run.
pub fn by_gpu(rows: &[(String, Summary)]) -> String {
    let mut text = String::from("\nrequests (share of the time computing) by GPU\n");
    for (name, run) in rows {
        let _ = write!(text, "{name}:");
        for part in &run.gpus {
            let _ = write!(text, " {} ({:.0} %)", part.requests, part.busy * 100.0);
        }
        text.push('\n');
    }
    text
}

/// The matrix: for each policy and cell the first token's p90, and the hit rate against the pooled cache's.
pub fn matrix<'a>(
    cells: &[String],
    policies: impl Iterator<Item = &'a str>,
    columns: &[Vec<&Summary>],
) -> String {
    let mut text = format!("| TTFT p90, of pooled | {} |\n|---", cells.join(" | "));
    text.push_str(&"|---".repeat(cells.len()));
    text.push_str("|\n");
    for (row, policy) in policies.enumerate() {
        let _ = write!(text, "| {policy} |");
        for run in columns.iter().filter_map(|column| column.get(row)) {
            let _ = write!(text, " {}, {:.1} % |", time(run.ttft_ms.p90), run.of_pooled * 100.0);
        }
        text.push('\n');
    }
    text
}
