#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| steer_fuzz::gossip_merge::check(data));
