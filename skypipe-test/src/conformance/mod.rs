//! What every transport must do. A transport joins with one line in a test of its own:
//!
//! ```ignore
//! use skypipe_test::conformance::{Ends, relay_key};
//!
//! async fn quic(_folder: &Path) -> Ends {
//!     let listener = QuicListener::bind("127.0.0.1:0", &relay_key()).await.unwrap();
//!     Ends::new(listener, QuicTransport::default())
//! }
//!
//! skypipe_test::conformance!(quic: quic);
//! ```
//!
//! The cases lie in four files: `calls`, what a relay and its client say to each other, over a toy broker; `streams`, what a link
//! owes by itself; `sessions`, writers and readers over a real broker; `cuts`, the same with links that break. A case that has
//! nothing to show over a transport passes: there are no bytes within one process, and on one machine a closed connection is a
//! dead process.

pub mod calls;
pub mod cuts;
mod ends;
mod one_key;
mod rig;
pub mod sessions;
pub mod streams;
mod toy;

pub use ends::{Ends, client_key, relay_key};
pub use one_key::OneKey;
pub use rig::{Rig, batch, pipe};
pub use toy::Toy;

use std::time::Duration;

/// No case takes longer, or it hangs.
const CASE_WITHIN: Duration = Duration::from_secs(120);

/// Runs one case on a runtime of its own.
///
/// # Panics
/// When it fails, or hangs.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(CASE_WITHIN, case).await.expect("the case hangs") });
    // A task that does not end must not hold the test up; what it held is freed with the process.
    runtime.shutdown_background();
}

/// Runs all cases over a transport: `conformance!(NAME: MAKE)`, where `MAKE` is an `async fn(&Path) -> Ends` that listens anew and
/// may put files into that folder.
#[macro_export]
macro_rules! conformance {
    ($name:ident: $make:expr) => {
        $crate::conformance!(@cases $name, $make,
            calls: calls_and_refusals
                messages_flow_both_ways
                much_goes_through
                batches_of_full_length_go_through
                a_clients_end_is_the_brokers_broken_link
                a_stream_ends_with_the_brokers_last_message
                without_a_last_message_it_is_a_broken_link
                draining_tells_everybody
                only_a_newer_program_takes_over
                too_many_streams_are_refused
                who_says_nothing_is_dropped
                a_key_that_is_not_known_gets_nothing,
            streams: a_thousand_streams_one_after_the_other
                sixty_four_streams_at_once
                one_direction_ends_before_the_other
                a_stream_dropped_in_a_write_is_no_end
                what_was_flushed_arrives
                last_words_arrive
                a_stream_that_nobody_reads_holds_up_no_other,
            sessions: eight_mebibytes_from_a_writer_to_a_reader
                what_is_stored_waits_for_its_reader
                sixteen_writers_and_readers_at_once
                one_reader_of_many_pipes,
            cuts: sessions_go_on_when_links_break
                a_cut_anywhere_in_the_first_record
                silence_anywhere_in_the_first_record
        );
    };
    (@cases $name:ident, $make:expr, $($file:ident: $($case:ident)*),*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $($(
                #[test]
                fn $case() {
                    $crate::conformance::run($crate::conformance::$file::$case($make));
                }
            )*)*
        }
    };
}
