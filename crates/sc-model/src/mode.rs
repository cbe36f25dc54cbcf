use sc_tensor::rng::Rng;

/// How a forward pass runs: for inference, or for one training step.
#[derive(Clone, Copy)]
pub struct Mode<'a> {
    training: Option<Training<'a>>,
}

/// What a training step adds to a forward pass.
#[derive(Clone, Copy)]
struct Training<'a> {
    rng: &'a Rng,
    step: u64,
    pass: u64,
    dropout: bool,
    batch_statistics: bool,
    frozen_statistics: bool,
}

impl<'a> Mode<'a> {
    /// Inference: running statistics, no dropout, no graph.
    pub fn eval() -> Self {
        Self { training: None }
    }

    /// Step number `step` of training: batch statistics, dropout drawn from `rng`, gradients tracked.
    pub fn train(rng: &'a Rng, step: u64) -> Self {
        Self {
            training: Some(Training {
                rng,
                step,
                pass: 0,
                dropout: true,
                batch_statistics: true,
                frozen_statistics: false,
            }),
        }
    }

    /// The same without dropout, to compare gradients.
    #[must_use]
    pub fn without_dropout(mut self) -> Self {
        if let Some(t) = &mut self.training {
            t.dropout = false;
        }
        self
    }

    /// Gradients of the network as it is at inference: without dropout, and normalised by running statistics, which stay
    /// as they are.
    #[must_use]
    pub fn as_at_inference(mut self) -> Self {
        if let Some(t) = &mut self.training {
            t.dropout = false;
            t.batch_statistics = false;
        }
        self
    }

    /// Batch norms whose statistics are frozen normalise by them, as at inference, and not by the minibatch.
    #[must_use]
    pub fn with_frozen_statistics(mut self) -> Self {
        if let Some(t) = &mut self.training {
            t.frozen_statistics = true;
        }
        self
    }

    /// Whether a batch norm takes the statistics of the minibatch; its own may be frozen.
    pub fn uses_batch_statistics(&self, frozen: bool) -> bool {
        self.training
            .is_some_and(|t| t.batch_statistics && !(frozen && t.frozen_statistics))
    }

    /// Another pass through the same layers within one step, which drops units of its own. The first pass is 0.
    #[must_use]
    pub fn pass(mut self, pass: u64) -> Self {
        if let Some(t) = &mut self.training {
            t.pass = pass;
        }
        self
    }

    /// Whether this is a training step.
    pub fn is_training(&self) -> bool {
        self.training.is_some()
    }

    /// Whether the graph is tracked.
    pub fn tracks(&self) -> bool {
        self.training.is_some()
    }

    /// The random numbers of the dropout layer called `name` in this step; none at inference.
    pub fn dropout_stream(&self, name: &str) -> Option<sc_tensor::rng::Stream> {
        let t = self.training.filter(|t| t.dropout)?;
        let stream = t.rng.stream(&format!("dropout/{name}"));
        Some(match t.pass {
            0 => stream.at(&[t.step]),
            pass => stream.at(&[t.step, pass]),
        })
    }
}
