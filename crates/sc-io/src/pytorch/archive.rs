//! The files around a pickle: torch's zip archive, and the plain layout that torch wrote before version 1.6.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use zip::ZipArchive;

use super::dtype::{DType, swap_bytes};
use super::error::{Error, Fault, Result};
use super::freeze::{Storages, freeze};
use super::machine::run;
use super::node::{Node, Program};
use super::value::Value;

/// Bytes that may be unpacked from an archive whatever its size, and per byte of it. torch itself does not compress.
const UNPACKED_MIN: u64 = 1 << 26;
const UNPACKED_PER_BYTE: u64 = 32;

/// The number that starts torch's layout of before version 1.6, as two's complement.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads a checkpoint of either layout.
pub(super) fn read(path: &Path) -> Result<Value> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut magic = [0_u8; 4];
    let filled = read_up_to(&mut file, &mut magic).map_err(|error| Error::io(path, error))?;
    match magic.get(..filled) {
        Some([b'P', b'K', ..]) => read_zip(path),
        Some([0x80, ..]) => read_legacy(path),
        found => Err(Error::format(
            path,
            format!(
                "starts with {:02x?}: this is neither the zip archive (`PK`) nor the pickle (`80`) that torch.save writes",
                found.unwrap_or_default()
            ),
        )),
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn read_zip(path: &Path) -> Result<Value> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let length = file
        .metadata()
        .map_err(|error| Error::io(path, error))?
        .len();
    let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| Error::zip(path, error))?;
    let mut archive = Archive {
        zip,
        root: String::new(),
        left: UNPACKED_MIN.saturating_add(length.saturating_mul(UNPACKED_PER_BYTE)),
        big_endian: false,
        loaded: HashMap::new(),
    };
    let root = archive
        .zip
        .file_names()
        .filter_map(std::result::Result::ok)
        .find_map(|name| {
            name.strip_suffix("data.pkl")
                .filter(|root| root.is_empty() || root.ends_with('/'))
                .map(str::to_owned)
        });
    let Some(root) = root else {
        return Err(Error::format(
            path,
            "the zip archive has no `data.pkl`: it was not written by torch.save",
        ));
    };
    archive.root = root;
    if archive
        .zip
        .index_for_name(&format!("{}constants.pkl", archive.root))
        .is_some()
    {
        return Err(Error::format(
            path,
            "this is a TorchScript program, not a checkpoint: save the state dict instead",
        ));
    }
    if archive
        .zip
        .index_for_name(&format!("{}byteorder", archive.root))
        .is_some()
    {
        let order = archive
            .entry("byteorder")
            .map_err(|what| Error::format(path, what))?;
        archive.big_endian = order.starts_with(b"big");
    }
    let pickle = archive
        .entry("data.pkl")
        .map_err(|what| Error::format(path, what))?;
    let length = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .max(pickle.len());
    run(&pickle, 0)
        .and_then(|program| freeze(program, length, Some(&mut archive)))
        .map_err(|fault| fault.at(path))
}

struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// The folder inside the archive, with its slash.
    root: String,
    /// Bytes that may still be unpacked.
    left: u64,
    big_endian: bool,
    loaded: HashMap<String, Arc<Vec<u8>>>,
}

impl Archive {
    fn entry(&mut self, name: &str) -> std::result::Result<Vec<u8>, String> {
        let name = format!("{}{name}", self.root);
        let failed =
            |error: &dyn std::fmt::Display| format!("entry `{name}` of the zip archive: {error}");
        let mut entry = self.zip.by_name(&name).map_err(|error| failed(&error))?;
        let size = entry.size();
        self.left = self.left.checked_sub(size).ok_or_else(|| {
            failed(&format!(
                "unpacks to {size} bytes, which is out of proportion to the file"
            ))
        })?;
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&error))?;
        // One read past the end makes the zip reader verify the checksum.
        let more = entry.read(&mut [0]).map_err(|error| failed(&error))?;
        if bytes.len() as u64 != size || more != 0 {
            return Err(failed(&format!(
                "does not have the {size} bytes that it declares"
            )));
        }
        Ok(bytes)
    }
}

impl Storages for Archive {
    fn load(
        &mut self,
        key: &str,
        numel: usize,
        width: usize,
    ) -> std::result::Result<Arc<Vec<u8>>, String> {
        if let Some(bytes) = self.loaded.get(key) {
            return Ok(bytes.clone());
        }
        let mut bytes = self.entry(&format!("data/{key}"))?;
        if numel
            .checked_mul(width)
            .is_none_or(|wanted| wanted > bytes.len())
        {
            return Err(format!(
                "storage {key} has {} bytes, not {numel} numbers of {width} bytes",
                bytes.len()
            ));
        }
        if self.big_endian {
            swap_bytes(&mut bytes, width);
        }
        let bytes = Arc::new(bytes);
        self.loaded.insert(key.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

/// Five pickles (a number, the layout's version, facts about the machine, the object, the keys of its storages), and
/// then per key the number of elements and the elements.
fn read_legacy(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let fault = |fault: Fault| fault.at(path);
    let magic = run(&bytes, 0).map_err(fault)?;
    let next = magic.end;
    if !matches!(root(&magic), Some(Node::Leaf(Value::BigInt(number))) if **number == LEGACY_MAGIC)
    {
        return Err(Error::format(
            path,
            "this is a bare pickle, not a checkpoint: `read_pickle` reads it",
        ));
    }
    let version = run(&bytes, next).map_err(fault)?;
    let facts = run(&bytes, version.end).map_err(fault)?;
    let next = facts.end;
    let facts = freeze(facts, bytes.len(), None).map_err(fault)?;
    if facts.get("little_endian").and_then(Value::as_bool) == Some(false) {
        return Err(Error::format(
            path,
            "was written on a big-endian machine in torch's old layout: save it again",
        ));
    }
    let object = run(&bytes, next).map_err(fault)?;
    let keys = run(&bytes, object.end).map_err(fault)?;
    let mut storages = Legacy {
        bytes: &bytes,
        widths: widths(&object),
        starts: HashMap::new(),
        loaded: HashMap::new(),
    };
    let next = keys.end;
    let keys = freeze(keys, bytes.len(), None).map_err(fault)?;
    storages
        .locate(&keys, next)
        .map_err(|what| Error::format(path, what))?;
    freeze(object, bytes.len(), Some(&mut storages)).map_err(fault)
}

fn root(program: &Program) -> Option<&Node> {
    program.nodes.get(program.root as usize)
}

/// The width of the numbers in each storage: the table behind the pickles leaves it out.
fn widths(program: &Program) -> HashMap<String, usize> {
    let node = |at: u32| program.nodes.get(at as usize);
    let described = |candidate: &Node| {
        let Node::Persistent(id) = candidate else {
            return None;
        };
        let Some(Node::Tuple(parts)) = node(*id) else {
            return None;
        };
        match (node(*parts.get(1)?)?, node(*parts.get(2)?)?) {
            (Node::Global(class), Node::Leaf(Value::Str(key))) => {
                let dtype = DType::from_torch_storage(class.rsplit('.').next()?)?;
                Some((key.to_string(), dtype.size()))
            }
            _ => None,
        }
    };
    program.nodes.iter().filter_map(described).collect()
}

struct Legacy<'a> {
    bytes: &'a [u8],
    widths: HashMap<String, usize>,
    /// Where each storage's numbers lie in the file.
    starts: HashMap<String, std::ops::Range<usize>>,
    loaded: HashMap<String, Arc<Vec<u8>>>,
}

impl Legacy<'_> {
    fn locate(&mut self, keys: &Value, mut at: usize) -> std::result::Result<(), String> {
        let keys = keys
            .as_slice()
            .ok_or("the table of storages is not a list")?;
        for key in keys {
            let key = key.as_str().ok_or("the key of a storage is not text")?;
            let width = self
                .widths
                .get(key)
                .ok_or_else(|| format!("storage {key} has numbers of an unknown type"))?;
            let count = self
                .bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk::<8>())
                .map(|word| u64::from_le_bytes(*word));
            let end = count
                .and_then(|count| {
                    usize::try_from(count)
                        .ok()?
                        .checked_mul(*width)?
                        .checked_add(at + 8)
                })
                .filter(|end| *end <= self.bytes.len())
                .ok_or_else(|| format!("the file ends inside storage {key}"))?;
            self.starts.insert(key.to_owned(), at + 8..end);
            at = end;
        }
        Ok(())
    }
}

impl Storages for Legacy<'_> {
    fn load(
        &mut self,
        key: &str,
        _numel: usize,
        _width: usize,
    ) -> std::result::Result<Arc<Vec<u8>>, String> {
        if let Some(bytes) = self.loaded.get(key) {
            return Ok(bytes.clone());
        }
        let range = self
            .starts
            .get(key)
            .cloned()
            .ok_or_else(|| format!("there is no storage {key}"))?;
        let bytes = Arc::new(self.bytes.get(range).unwrap_or(&[]).to_vec());
        self.loaded.insert(key.to_owned(), bytes.clone());
        Ok(bytes)
    }
}
