//! The names that versions of the original gave to the same tensors.

/// Which names a checkpoint has. The numbers are the same in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// `self_attn.Wqkv`, as released, and as this library names them.
    #[default]
    Flash,
    /// `self_attn._impl.Wqkv`, of version 0.2.5 with flash-attention 2.
    FlashWrapper,
    /// `self_attn.in_proj_weight`, of models without flash-attention.
    Torch,
}

impl Layout {
    /// The name that a tensor has in this layout.
    pub(super) fn name(self, canonical: &str) -> String {
        let Some((layer, rest)) = canonical.split_once(".self_attn.") else {
            return canonical.to_owned();
        };
        let rest = match (self, rest) {
            (Self::Flash, _) => rest.to_owned(),
            (Self::FlashWrapper, _) => format!("_impl.{rest}"),
            (Self::Torch, "Wqkv.weight") => "in_proj_weight".to_owned(),
            (Self::Torch, "Wqkv.bias") => "in_proj_bias".to_owned(),
            (Self::Torch, _) => rest.to_owned(),
        };
        format!("{layer}.self_attn.{rest}")
    }
}

/// The name of a tensor here, whatever its layout.
pub(super) fn canonical(name: &str) -> String {
    // Distributed training puts this before all names, nested once more where it was wrapped twice.
    let mut name = name;
    while let Some(rest) = name.strip_prefix("module.") {
        name = rest;
    }
    let Some((layer, rest)) = name.split_once(".self_attn.") else {
        return name.to_owned();
    };
    let rest = match rest {
        "in_proj_weight" => "Wqkv.weight",
        "in_proj_bias" => "Wqkv.bias",
        rest => rest.strip_prefix("_impl.").unwrap_or(rest),
    };
    format!("{layer}.self_attn.{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layouts_have_one_canonical_name() {
        for rest in ["Wqkv.weight", "Wqkv.bias", "out_proj.weight"] {
            let name = format!("transformer_encoder.layers.3.self_attn.{rest}");
            for layout in [Layout::Flash, Layout::FlashWrapper, Layout::Torch] {
                let there = layout.name(&name);
                assert_eq!(canonical(&there), name, "{there}");
                assert_eq!(canonical(&format!("module.{there}")), name);
            }
        }
        assert_eq!(
            canonical("module.encoder.enc_norm.bias"),
            "encoder.enc_norm.bias"
        );
    }
}
