#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| steer_fuzz::trace_parent::check(data));
