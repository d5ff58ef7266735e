#![no_main]

#[path = "../../tests/fuzz/attributes.rs"]
mod attributes;
#[path = "../../tests/fuzz/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|input: &[u8]| wire::run(input));
