use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::GeneVocab;
use crate::{Error, Result};

/// The entries of a JSON object in their order. A map would silently keep the last of two entries with the same name.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a number for each token")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

pub(super) fn read(path: &Path) -> Result<GeneVocab> {
    let text = std::fs::read_to_string(path).map_err(|source| sc_model::Error::File {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    parse(&text).map_err(|reason| {
        let path = path.to_owned();
        sc_model::Error::Format { path, reason }.into()
    })
}

/// A vocabulary from the text of a `vocab.json`, or what is wrong with it.
pub(super) fn parse(text: &str) -> std::result::Result<GeneVocab, String> {
    let Entries(entries) = serde_json::from_str(text)
        .map_err(|e| format!("not a vocabulary, an object with a number for each token: {e}"))?;
    let ids = entries
        .into_iter()
        .map(|(token, value)| match value.as_u64().map(u32::try_from) {
            Some(Ok(id)) => Ok((token, id)),
            _ => Err(format!(
                "the number of token \"{token}\" is {value}; expected an integer from 0 to the number of tokens"
            )),
        })
        .collect::<std::result::Result<Vec<_>, _>>()?;
    GeneVocab::from_ids(ids).map_err(|e| e.to_string())
}

pub(super) fn save(vocab: &GeneVocab, path: &Path) -> Result<()> {
    let map: serde_json::Map<String, Value> = vocab
        .tokens()
        .iter()
        .zip(0u32..)
        .map(|(t, id)| (t.clone(), id.into()))
        .collect();
    sc_model::files::write_atomic(path, |out| {
        serde_json::to_writer_pretty(out, &map).map_err(std::io::Error::from)
    })
    .map_err(Error::from)
}
