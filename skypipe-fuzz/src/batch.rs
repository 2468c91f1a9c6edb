//! Bytes into batches.

use bytes::Bytes;
use skypipe_core::{BATCH_HEADER_BYTES, BATCH_VERSION, Batch, BatchBuilder, PIECE_BYTES_MAX, Piece, Seq};

use crate::allocated::within;

/// What a batch may allocate: errors, and nothing for what it says of itself.
const DECODE_BYTES_MAX: usize = 4096;

pub(crate) fn run(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if first & 1 != 0 {
        mend(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    let decoded = within(DECODE_BYTES_MAX, || Batch::decode(bytes.clone()));
    let Ok(batch) = decoded else { return };
    assert_eq!(batch.encoded(), &bytes, "a batch is its bytes");
    look_at(&batch);
    build_again(&batch);
}

/// Makes version, length and checksum those of the bytes, where they are long enough to have them.
pub(crate) fn mend(bytes: &mut [u8]) {
    if bytes.len() < BATCH_HEADER_BYTES {
        return;
    }
    bytes[0] = BATCH_VERSION;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn look_at(batch: &Batch) {
    let pieces: Vec<Piece> = batch.pieces().collect();
    assert_eq!(pieces.len(), batch.count() as usize);
    let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.body.to_vec()).collect();
    assert_eq!(joined, batch.bodies(), "the bodies are those of the pieces");
    let last = batch.first().plus(u64::from(batch.count()));
    assert!(batch.next() >= last && batch.next() <= last.plus(1));
    assert!(batch.ends_from(Seq(0)) <= u64::from(batch.count()) && batch.ends_from(last) == 0);
    assert_eq!(batch.first_start(), pieces.iter().find(|piece| piece.first).map(|piece| piece.seq));
    assert_eq!(batch.is_open(), pieces.last().is_some_and(|piece| !piece.last));
    assert_eq!(batch.end().is_some(), batch.is_end());
    for wanted in 0..4 {
        let value = batch.extension(wanted).unwrap_or_default();
        assert!(value.len() <= batch.encoded().len());
    }
    let _ = format!("{batch:?} {}", batch.session());
}

/// The builder makes of the same pieces a batch with the same pieces.
fn build_again(batch: &Batch) {
    let mut builder = BatchBuilder::new(batch.session(), batch.epoch(), batch.first());
    for piece in batch.pieces() {
        let fits = piece.body.len() <= PIECE_BYTES_MAX && builder.fits(piece.body.len());
        assert_eq!(builder.push(&piece.body, piece.first, piece.last), fits);
        if !fits {
            return;
        }
    }
    let built = builder.build(batch.end());
    assert!(built.pieces().eq(batch.pieces()));
    assert_eq!((built.next(), built.end()), (batch.next(), batch.end()));
    assert_eq!(Batch::decode(built.encoded().clone()), Ok(built));
}
