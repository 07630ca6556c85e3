#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| flowyte_fuzz::targets::path(data));
