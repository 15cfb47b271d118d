#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| steer_fuzz::rate_told::check(data));
