//! What somebody meant who wrote a name that nobody knows.

/// A likeness from 0 to 1 below which a name was hardly meant.
const NEAR_ENOUGH: f64 = 0.8;

/// `did you mean 'x'?`, where one of the known names is like `name`.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|known| format!("did you mean '{known}'?"))
}

/// The known name most like `name`, if one is near enough to have been meant; of equals the shortest.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (likeness(known, name), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.len().cmp(&a.1.len())));
    best.filter(|(score, _)| *score > NEAR_ENOUGH).map(|(_, known)| known)
}

fn likeness(known: &str, name: &str) -> f64 {
    // 'pid' means process.pid rather than some other short name.
    let tail = known.rsplit_once('.').map_or(known, |(_, tail)| tail);
    strsim::jaro_winkler(known, name).max(strsim::jaro_winkler(tail, name) * 0.99)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_most_like_name_was_meant_if_any_is_near_enough() {
        let known =
            ["process.name", "process.pid", "process.parent.name", "exec", "exit", "runqlat", "tcplife"];
        for (name, meant) in [
            ("proces.nam", Some("process.name")),
            ("name", Some("process.name")),
            ("pid", Some("process.pid")),
            ("exek", Some("exec")),
            ("runqlate", Some("runqlat")),
            ("tcplive", Some("tcplife")),
            ("zzz", None),
            ("nginx.access", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }
}
