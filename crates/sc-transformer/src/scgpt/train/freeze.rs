//! Which parameters are trained.

use crate::scgpt::model::ScGpt;

/// The layers that read tokens, as the original freezes them: every name with "encoder" in it, but not the transformer's.
fn reads_tokens(name: &str) -> bool {
    name.contains("encoder") && !name.contains("transformer_encoder")
}

impl ScGpt {
    /// Freezes, or thaws, what reads tokens (genes, values, batches, modalities), so that fine-tuning changes the transformer
    /// and the heads only: the original's option `freeze`. Says how many parameters that is.
    pub fn freeze_encoders(&self, freeze: bool) -> usize {
        self.freeze_where(freeze, reads_tokens)
    }

    /// Freezes, or thaws, the parameters whose name is chosen. Says how many.
    pub fn freeze_where(&self, freeze: bool, chosen: impl Fn(&str) -> bool) -> usize {
        let named = self
            .params
            .iter()
            .filter(|p| !p.is_buffer() && chosen(p.name()));
        named.map(|p| p.set_trainable(!freeze)).count()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_transformer_stays_trainable() {
        let frozen = super::reads_tokens;
        assert!(frozen("encoder.embedding.weight") && frozen("value_encoder.norm.bias"));
        assert!(frozen("batch_encoder.enc_norm.weight"));
        assert!(
            !frozen("transformer_encoder.layers.0.linear1.weight") && !frozen("decoder.fc.0.bias")
        );
    }
}
