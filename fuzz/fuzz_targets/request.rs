#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| flowyte_fuzz::targets::request(data));
