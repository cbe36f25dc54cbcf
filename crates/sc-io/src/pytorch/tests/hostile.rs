//! Files that want to exhaust memory, time or the stack.

use std::io::{Read, Write};
use std::path::Path;

use super::{fixture, shared};
use crate::pytorch::pickler::pickle;
use crate::pytorch::{Value, parse_pickle, read};

#[test]
fn deep_nests_are_refused() {
    for (open, close) in [(b"]".as_slice(), b"a".as_slice()), (b"", b"\x85")] {
        let mut pickle = open.repeat(100_000);
        pickle.extend(b"N");
        pickle.extend(close.repeat(100_000));
        pickle.push(b'.');
        assert!(
            parse_pickle(&pickle)
                .unwrap_err()
                .to_string()
                .contains("nested")
        );
    }
    // Shallow where it is met first, deep where it is used again.
    let mut pickle = b"(N".to_vec();
    pickle.extend(b"\x85".repeat(200));
    pickle.extend(b"q\0h\0");
    pickle.extend(b"\x85".repeat(200));
    pickle.extend(b"t.");
    assert!(
        parse_pickle(&pickle)
            .unwrap_err()
            .to_string()
            .contains("nested")
    );
}

#[test]
fn nests_below_the_limit_can_be_used() {
    let mut pickle = b"N".to_vec();
    pickle.extend(b"\x85".repeat(250));
    pickle.push(b'.');
    let value = parse_pickle(&pickle).unwrap();
    assert_eq!(value, value.clone());
    assert!(format!("{value:?}").len() > 250);
}

#[test]
fn shared_lists_that_double_at_each_level_are_refused() {
    let mut pickle = b"N".to_vec();
    for slot in 0..100_u8 {
        pickle.extend([b'q', slot, b'h', slot, 0x86]);
    }
    pickle.push(b'.');
    assert!(
        parse_pickle(&pickle)
            .unwrap_err()
            .to_string()
            .contains("written out")
    );
}

#[test]
fn copies_of_one_large_argument_are_refused() {
    // An object array of 100,000 elements, rebuilt from the same list 10,000 times.
    let mut pickle = b"](".to_vec();
    pickle.extend(b"N".repeat(100_000));
    pickle.extend(b"eq\x000");
    pickle.extend(b"cnumpy\ndtype\n(S'O8'\ntRq\x010");
    pickle.push(b']');
    for _ in 0..10_000 {
        pickle.extend(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85S'b'\ntR(K\x01J\xa0\x86\x01\0\x85h\x01\x89h\0tba");
    }
    pickle.push(b'.');
    assert!(
        parse_pickle(&pickle)
            .unwrap_err()
            .to_string()
            .contains("elements")
    );
    // A dictionary rebuilt from the same list of pairs, and bytes from the same text.
    let mut pickle = b"](".to_vec();
    pickle.extend(b"K\x01K\x02\x86".repeat(50_000));
    pickle.extend(b"eq\x000]");
    pickle.extend(b"ccollections\nOrderedDict\nh\0\x85Ra".repeat(10_000));
    pickle.push(b'.');
    assert!(
        parse_pickle(&pickle)
            .unwrap_err()
            .to_string()
            .contains("elements")
    );
    let mut pickle = b"X\x40\x42\x0f\0".to_vec();
    pickle.extend(b"a".repeat(1_000_000));
    pickle.extend(b"q\x000]");
    pickle.extend(b"c_codecs\nencode\nh\0S'latin1'\n\x86Ra".repeat(10_000));
    pickle.push(b'.');
    assert!(
        parse_pickle(&pickle)
            .unwrap_err()
            .to_string()
            .contains("elements")
    );
}

type Entries = Vec<(String, Vec<u8>)>;

fn unpack(path: &Path) -> Entries {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    (0..zip.len())
        .map(|index| {
            let mut entry = zip.by_index(index).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.name().unwrap().into_owned(), bytes)
        })
        .collect()
}

fn pack(path: &Path, entries: &Entries) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in entries {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// A zip archive around a pickle and one storage.
fn archive(path: &Path, pickle: &[u8], storage: &[u8]) {
    pack(
        path,
        &vec![
            ("a/data.pkl".into(), pickle.to_vec()),
            ("a/data/0".into(), storage.to_vec()),
        ],
    );
}

fn tensor(numel: &str, shape: &str, stride: &str) -> Vec<u8> {
    format!("ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI{numel}\ntQI0\n({shape}t({stride}tI00\nNtR.").into_bytes()
}

#[test]
fn tensors_outside_of_their_storage_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pt");
    let storage = [0_u8; 40];
    for (numel, shape, stride, word) in [
        ("10", "I1000000\nI1000000\n", "I0\nI0\n", "elements"),
        ("10", "I11\n", "I1\n", "leaves its storage"),
        ("10", "I2\n", "I9223372036854775807\n", "leaves its storage"),
        ("10", "I-2\n", "I1\n", "whole numbers"),
        ("1000", "I2\n", "I1\n", "bytes, not 1000"),
    ] {
        archive(&path, &tensor(numel, shape, stride), &storage);
        let message = read(&path).unwrap_err().to_string();
        assert!(
            message.contains(word) && message.contains("x.pt"),
            "{message}"
        );
    }
    archive(&path, &tensor("10", "I3\nI2\n", "I0\nI1\n"), &storage);
    assert_eq!(
        read(&path).unwrap().as_tensor().unwrap().to_f32_vec(),
        [0.0; 6]
    );
}

#[test]
fn archives_that_unpack_to_far_more_than_their_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pt");
    archive(&path, &tensor("10", "I2\n", "I1\n"), &vec![0; 100 << 20]);
    assert!(
        read(&path)
            .unwrap_err()
            .to_string()
            .contains("out of proportion")
    );
}

/// Numbers without structure; the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Reads damaged copies: any answer is fine, a panic is not.
fn survives(original: &[u8], rounds: usize, mut read: impl FnMut(&[u8])) {
    let mut noise = Noise(7);
    for length in (0..original.len()).step_by(original.len() / rounds.min(original.len()) + 1) {
        read(&original[..length]);
    }
    for _ in 0..rounds {
        let mut damaged = original.to_vec();
        for _ in 0..=noise.below(4) {
            let at = noise.below(damaged.len());
            damaged[at] = u8::try_from(noise.below(256)).unwrap();
        }
        read(&damaged);
    }
}

fn walk(value: &Value) -> usize {
    if let Some(tensor) = value.as_tensor() {
        return tensor.to_f32_vec().len();
    }
    if let Some(array) = value.as_array() {
        return array.to_f64_vec().map_or(0, |numbers| numbers.len())
            + array.to_strings().map_or(0, |items| items.len());
    }
    let _ = crate::pytorch::DataFrame::from_value(value);
    match value {
        Value::Dict(dict) => dict.entries.iter().map(|(_, value)| walk(value)).sum(),
        other => other.as_slice().unwrap_or(&[]).iter().map(walk).sum(),
    }
}

#[test]
fn damaged_archives_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pt");
    survives(
        &std::fs::read(fixture("types.pt")).unwrap(),
        1500,
        |bytes| {
            std::fs::write(&path, bytes).unwrap();
            if let Ok(value) = read(&path) {
                walk(&value);
            }
        },
    );
}

#[test]
fn damaged_pickles_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pt");
    // Through the archive, so that tensors are rebuilt too; packed anew, as the checksum would give the damage away.
    let mut entries = unpack(&fixture("types.pt"));
    let pickle_entry = entries
        .iter()
        .position(|(name, _)| name.ends_with("data.pkl"))
        .unwrap();
    let original = entries[pickle_entry].1.clone();
    let mut read_in_full = 0;
    survives(&original, 3000, |bytes| {
        entries[pickle_entry].1 = bytes.to_vec();
        pack(&path, &entries);
        if let Ok(value) = read(&path) {
            read_in_full += 1;
            walk(&value);
            let _ = pickle(&value);
        }
    });
    assert!(read_in_full > 100, "{read_in_full} damaged files were read");
    let Some(shared) = shared() else { return };
    let entries = unpack(&shared.join("golden/scvi/small_models/nonorm/model.pt"));
    let original = &entries
        .iter()
        .find(|(name, _)| name.ends_with("data.pkl"))
        .unwrap()
        .1;
    survives(original, 3000, |bytes| {
        if let Ok(value) = parse_pickle(bytes) {
            walk(&value);
        }
    });
}
