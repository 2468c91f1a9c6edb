#![no_main]

skypipe_fuzz_programs::program!("tape");
