#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    steer_fuzz::bgp_events::check(data);
});
