//! Where AnnData lies: in a file of its own, or as a modality in an `.h5mu` file.

use std::path::{Path, PathBuf};

/// A file, and the modality in it that was named.
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) modality: Option<String>,
}

impl Place {
    /// `FILE.h5mu/NAME` and `FILE.h5mu/mod/NAME` are modalities, as mudata names them; everything else is a file.
    pub(crate) fn of(path: &Path) -> Self {
        match modality(path) {
            Some((file, name)) => Self {
                file: file.to_owned(),
                modality: Some(name.to_owned()),
            },
            None => Self {
                file: path.to_owned(),
                modality: None,
            },
        }
    }
}

fn modality(path: &Path) -> Option<(&Path, &str)> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let file = match parent.file_name()?.to_str() {
        Some("mod") => parent.parent()?,
        _ => parent,
    };
    (is_named_h5mu(file) && file.is_file()).then_some((file, name))
}

/// Whether a name ends in `.h5mu`.
pub(crate) fn is_named_h5mu(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("h5mu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modalities_are_named_behind_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.h5mu");
        std::fs::write(&file, "").unwrap();
        let of = |path: &Path| {
            let place = Place::of(path);
            (place.file, place.modality)
        };
        let rna = (file.clone(), Some("rna".to_owned()));
        assert_eq!(of(&file.join("rna")), rna);
        assert_eq!(of(&file.join("mod/rna")), rna);
        assert_eq!(of(&file.join("mod")), (file.clone(), Some("mod".into())));
        assert_eq!(of(&file), (file.clone(), None));
        // A folder may be called so.
        let other = folder.path().join("b.h5mu");
        std::fs::create_dir(&other).unwrap();
        assert_eq!(of(&other.join("rna")), (other.join("rna"), None));
    }
}
