#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| steer_fuzz::dns_master_file::check(data));
