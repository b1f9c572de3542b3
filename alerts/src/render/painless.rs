//! The scripts of a watch. They read the same aggregations as [`crate::evaluate`] does.

use crate::alert::Alert;
use crate::evaluate::{DIVISOR, GROUP, VALUE};
use crate::expression::Aggregation;

/// A state that was written longer ago than so many intervals is of another time. Without that limit an
/// acknowledgement of all actions would never end: it keeps the state from being written, and only a condition that
/// is not met lifts it.
const MAX_AGE_INTERVALS: u64 = 10;

/// Texts of rows without what Slack, mail headers and logs read as their own: control characters, `<`, `>` and `&`.
const CLEAN: &str = "String clean(def text) { String all = text.toString(); StringBuilder out = new StringBuilder(); \
    for (int i = 0; i < all.length(); i++) { int c = (int) all.charAt(i); \
    if (c < 32 || c == 127) { out.append(' '); } else if (c == 60) { out.append('('); } \
    else if (c == 62) { out.append(')'); } else if (c == 38) { out.append('+'); } \
    else { out.append(all.charAt(i)); } } return out.toString(); } ";

/// The functions that both scripts begin with.
fn functions(alert: &Alert) -> String {
    let mut body = String::from("List found = new ArrayList(); def b0 = ctx.payload.now.aggregations; ");
    let depth = alert.group_by.len();
    if depth > 0 {
        body += &format!("if (b0 == null || b0.{GROUP} == null) {{ return found; }} ");
    }
    for level in 1..=depth {
        body += &format!("for (def b{level} : b{}.{GROUP}.buckets) {{ ", level - 1);
    }
    let labels = alert.group_by.iter().enumerate().map(|(index, field)| {
        let bucket = format!("b{}", index + 1);
        format!("'{field}=' + clean({bucket}.key_as_string != null ? {bucket}.key_as_string : {bucket}.key)")
    });
    let labels = labels.collect::<Vec<_>>().join(" + ', ' + ");
    let labels = if labels.is_empty() { "''" } else { &labels };
    let sign = alert.threshold.comparator.sign();
    body += &format!(
        "{} if (value instanceof Number && value {sign} ctx.metadata.threshold) {{ \
         found.add(['group': {labels}, 'value': value, 'text': {}]); }} ",
        value(&alert.aggregation, depth),
        text(&alert.unit),
    );
    body += &"} ".repeat(depth);
    format!("{CLEAN}List firing(def ctx) {{ {body}return found; }} ")
}

fn value(aggregation: &Aggregation, depth: usize) -> String {
    let of =
        |name: &str| format!("(b{depth} == null || b{depth}.{name} == null ? null : b{depth}.{name}.value)");
    match aggregation {
        Aggregation::Count if depth == 0 => "def value = ctx.payload.now.hits.total;".into(),
        Aggregation::Count => format!("def value = b{depth}.doc_count;"),
        Aggregation::Of(..) => format!("def value = {};", of(VALUE)),
        Aggregation::Percentile(_, percent) => format!(
            "def value = (b{depth} == null || b{depth}.{VALUE} == null ? null : b{depth}.{VALUE}.values['{percent:?}']);"
        ),
        Aggregation::Ratio(..) => format!(
            "def dividend = {}; def divisor = {}; def value = null; \
             if (dividend instanceof Number && divisor instanceof Number && divisor > 0) \
             {{ value = (double) dividend / (double) divisor; }}",
            of(VALUE),
            of(DIVISOR)
        ),
        // Milliseconds to nanoseconds.
        Aggregation::Age => format!(
            "def newest = {}; def value = null; \
             if (newest instanceof Number) {{ value = (new Date().getTime() - (double) newest) * 1000000.0; }}",
            of(VALUE)
        ),
    }
}

fn text(unit: &str) -> String {
    let scaled = |divisor: &str, unit: &str| {
        format!("(Math.round((double) value / {divisor} * 100.0) / 100.0) + ' {unit}'")
    };
    match unit {
        "ns" => scaled("1000000.0", "ms"),
        "bytes" => scaled("1048576.0", "MiB"),
        _ => "(Math.round((double) value * 10000.0) / 10000.0) + ''".into(),
    }
}

/// The groups that fired at the last execution.
fn before(interval: u64) -> String {
    format!(
        "List before(def ctx) {{ def hits = ctx.payload.before.hits.hits; if (hits.size() == 0) {{ return []; }} \
         def last = hits[0]._source; \
         if (new Date().getTime() - last.time > {}L) {{ return []; }} return last.firing; }} ",
        interval * 1000 * MAX_AGE_INTERVALS
    )
}

/// Whether anything fires, or did. `interval` is in seconds.
pub(super) fn condition(alert: &Alert, interval: u64) -> String {
    format!(
        "{}{}return firing(ctx).size() > 0 || before(ctx).size() > 0;",
        functions(alert),
        before(interval)
    )
}

/// What the actions see: the groups that fire, and those that did and do no more.
pub(super) fn transform(alert: &Alert, interval: u64) -> String {
    format!(
        "{}{}List now = firing(ctx); Set names = new HashSet(); for (def g : now) {{ names.add(g.group); }} \
         List recovered = new ArrayList(); \
         for (def g : before(ctx)) {{ if (!names.contains(g.group)) {{ recovered.add(g); }} }} \
         return ['alert': '{}', 'time': new Date().getTime(), 'firing': now, 'recovered': recovered];",
        functions(alert),
        before(interval),
        alert.name
    )
}
