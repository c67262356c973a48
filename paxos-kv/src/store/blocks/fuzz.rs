//! A fuzz target for the file of a state. `docs/PROOF.md` has the commands.

use redb::backends::InMemoryBackend;

use super::*;

/// Blocks beside the head.
const COUNT: u64 = 6;

fn block(number: u64) -> Vec<u8> {
    vec![u8::try_from(number).expect("a few"); BLOCK_BYTES]
}

fn on(file: &[u8]) -> Blocks {
    let inner = InMemoryBackend::new();
    inner.set_len(file.len() as u64).and_then(|()| inner.write(0, file)).expect("in memory");
    Blocks::on(Box::new(inner), "file".to_owned())
}

/// What a sound file holds: all blocks but the last are written.
fn sound() -> Vec<u8> {
    let backend = std::sync::Arc::new(InMemoryBackend::new());
    let blocks = Blocks::on(Box::new(super::tests::Shared(backend.clone())), "file".to_owned());
    blocks.set_len((1 + COUNT) * BLOCK).expect("in memory");
    blocks.write(0, &block(9)).expect("in memory");
    (1..COUNT).for_each(|number| blocks.write(number * BLOCK, &block(number)).expect("in memory"));
    blocks.sync_data().expect("in memory");
    let mut file = vec![0; usize::try_from(backend.len().expect("a length")).expect("it fits")];
    backend.read(0, &mut file).expect("in memory");
    file
}

/// Other bytes in it, and a length of any kind: what can be read is as it was written, and all else refused.
#[test]
fn damaged_files() {
    let sound = sound();
    type Damage = (bool, Vec<(u16, u8)>, Option<u16>);
    bolero::check!().with_type::<Damage>().for_each(|(in_front, edits, cut)| {
        let mut file = sound.clone();
        for (at, byte) in edits.iter().take(6) {
            let at = usize::from(*at);
            let blocks = file.len() / BLOCK_BYTES;
            // Where something is: in front of a block.
            let at = if *in_front {
                at % blocks * BLOCK_BYTES + at / blocks % 64
            } else {
                at % file.len()
            };
            file[at] = *byte;
        }
        if let Some(length) = cut {
            file.truncate(usize::from(*length) % file.len());
        }
        let blocks = on(&file);
        let Ok(length) = blocks.len() else { return };
        for number in 0..(length / BLOCK).min(1 + COUNT) {
            let mut found = vec![0; BLOCK_BYTES];
            if blocks.read(number * BLOCK, &mut found).is_err() {
                continue;
            }
            let expected = if number == 0 { block(9) } else { block(number) };
            let is_unwritten = found.iter().all(|byte| *byte == 0) && number == COUNT;
            assert!(found == expected || is_unwritten, "block {number} is another one");
        }
    });
}
