//! What libbpf says.

use std::cell::RefCell;

use libbpf_rs::PrintLevel;

/// Lets libbpf's messages go to the log, instead of to standard error.
pub(crate) fn listen() {
    libbpf_rs::set_print(Some((PrintLevel::Debug, take_note)));
}

thread_local! {
    /// The program or map that libbpf first complained of since a load began, and its words.
    static COMPLAINT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Takes a message of libbpf, which comes in the thread that called it.
fn take_note(level: PrintLevel, text: String) {
    let text = text.trim_end();
    log::debug!("{text}");
    let text = text.trim_start_matches("libbpf: ");
    let names_what = text.starts_with("prog '") || text.starts_with("map '");
    if level == PrintLevel::Warn && names_what {
        COMPLAINT.with_borrow_mut(|first| {
            if first.is_empty() {
                text.clone_into(first);
            }
        });
    }
}

/// Begins a load.
pub(crate) fn forget_complaint() {
    COMPLAINT.with_borrow_mut(String::clear);
}

/// What libbpf first complained of since the load began; may be empty.
pub(crate) fn complaint() -> String {
    COMPLAINT.take()
}
