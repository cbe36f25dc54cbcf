//! Hubs that mean harm, or are odd.

use super::*;

/// A hub with these faults: what is said of it, and the bytes that are left in the cache. Nothing is beside the cache.
fn hostile(set: impl FnOnce(&mut Faults)) -> (String, u64) {
    let (server, place) = (Server::new(files()), tempfile::tempdir().unwrap());
    let cache = place.path().join("a/b/cache");
    std::fs::create_dir_all(&cache).unwrap();
    set(&mut server.state.faults.lock().unwrap());
    let message = run(&server.options(&cache)).map_or_else(|e| e.to_string(), |_| String::new());
    for (folder, only) in [("", "a"), ("a", "b"), ("a/b", "cache")] {
        let left = std::fs::read_dir(place.path().join(folder)).unwrap();
        let names: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [only]);
    }
    (message, bytes_below(&cache))
}

fn bytes_below(path: &Path) -> u64 {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    if !metadata.is_dir() {
        return metadata.len();
    }
    let inside = std::fs::read_dir(path).unwrap();
    inside.map(|e| bytes_below(&e.unwrap().path())).sum()
}

#[test]
fn a_hostile_hub_stays_outside() {
    let (message, left) = hostile(|f| f.hostile_tag = true);
    assert!(message.contains("can't be"), "{message}");
    assert_eq!(left, 0);
}

/// What it says after its first word of a file does not matter.
#[test]
fn a_hub_that_changes_its_mind_is_not_heard() {
    let (message, left) = hostile(|f| f.changes_its_mind = true);
    assert_eq!(message, "");
    assert!((800_000..1_000_000).contains(&left), "{left}");
}

#[test]
fn a_hub_that_never_stops_is_cut_off() {
    let (message, left) = hostile(|f| f.endless = true);
    assert!(
        message.contains("adata.h5ad") && message.contains("more than the 800000 bytes"),
        "{message}"
    );
    assert!(left < 200_000, "{left}");
}

#[test]
fn odd_answers_are_refused() {
    let (message, _) = hostile(|f| f.other_commit = true);
    assert!(message.contains("of commit f123"), "{message}");
    let (message, _) = hostile(|f| f.card_bytes = Some(1 << 40));
    assert!(
        message.contains("README.md") && message.contains("bytes on the hub"),
        "{message}"
    );
    let (message, _) = hostile(|f| f.nowhere = true);
    assert!(message.contains("does not say where"), "{message}");
}

/// As the real hub does with large files.
#[test]
fn contents_may_be_elsewhere() {
    let (server, cache) = (Server::new(files()), tempfile::tempdir().unwrap());
    let options = server.options(cache.path());
    {
        let mut faults = server.state.faults.lock().unwrap();
        (faults.elsewhere, faults.cut) = (true, Some(300_000));
    }
    assert!(run(&options).is_err());
    let pulled = run(&options).unwrap();
    let (bytes, checksum) = transferred(&pulled, "adata.h5ad");
    assert!(bytes <= 500_000 && checksum == Checksum::Sha256, "{bytes}");
    assert_eq!(server.requests("/kept/adata.h5ad").len(), 2);
}
