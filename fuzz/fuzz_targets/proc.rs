#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kumon_fuzz::proc(bytes));
