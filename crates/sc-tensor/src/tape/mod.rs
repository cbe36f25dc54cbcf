//! How a call of a [`Kernel`] becomes part of candle's graph, without the copies that candle makes of gradients.
//!
//! candle adds every gradient of a tensor to zeros that it allocates first: for a layer that costs as much as its norm, and
//! on one thread. So what candle sees between two kernels is not the tensor but its *token*, a tensor of one number:
//!
//! ```text
//!   args or their tokens  ->  token (Inputs)  ->  output (Output)  ->  operations of candle
//!                                  |
//!                                  +->  tokens of the kernels that take the output as an argument
//! ```
//!
//! On the way back [`Output`], or the kernels that took the output, leave its gradient in [`LEFT`], under the number of the
//! call. candle comes to the token when all of them have been there; then the kernel is asked for the gradients of its
//! arguments. This works with candle's own `backward` as well as with [`crate::backward()`].

mod nodes;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{CpuStorage, Error, Result, Shape, Tensor, TensorId};

use self::nodes::{Inputs, Output};
use crate::backward::take_out;
use crate::kernel::{Kernel, add_into};

/// One call of a kernel.
struct Call {
    number: u64,
    kernel: Box<dyn Kernel>,
    args: Vec<Tensor>,
    /// The output without its graph; its id in the graph.
    output: OnceLock<(Tensor, TensorId)>,
}

/// The token of an output.
#[derive(Clone)]
struct Link {
    call: u64,
    token: Tensor,
}

/// The tokens of the outputs that are in use.
static LINKS: Mutex<Option<HashMap<TensorId, Link>>> = Mutex::new(None);

fn links<R>(f: impl FnOnce(&mut HashMap<TensorId, Link>) -> R) -> R {
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    f(links.get_or_insert_default())
}

/// A gradient on its way.
struct Gradient {
    tensor: Tensor,
    /// Whether nobody else has its memory.
    owned: bool,
}

thread_local! {
    /// The gradients of outputs, by the number of the call. candle goes back on one thread.
    static LEFT: RefCell<HashMap<u64, Gradient>> = RefCell::new(HashMap::new());
    /// The gradients of arguments that further [`Inputs`] of a call will take.
    static TO_TAKE: RefCell<HashMap<u64, Vec<Option<Gradient>>>> = RefCell::new(HashMap::new());
}

/// Forgets what an interrupted way back has left.
pub(crate) fn forget() {
    LEFT.with_borrow_mut(HashMap::clear);
    TO_TAKE.with_borrow_mut(HashMap::clear);
}

/// Adds to the gradient of a call's output.
fn leave(call: u64, grad: Gradient) -> Result<()> {
    let before = LEFT.with_borrow_mut(|left| left.remove(&call));
    let sum = match before {
        None => grad,
        Some(before) => add(before, grad)?,
    };
    LEFT.with_borrow_mut(|left| left.insert(call, sum));
    Ok(())
}

fn add(a: Gradient, b: Gradient) -> Result<Gradient> {
    // In the memory of one of them if possible.
    let (to, from) = if a.owned { (a, b) } else { (b, a) };
    if to.owned && add_into(&to.tensor, &from.tensor)? {
        recycle(from);
        return Ok(to);
    }
    let tensor = (&to.tensor + &from.tensor)?.detach();
    recycle(to);
    recycle(from);
    Ok(Gradient {
        tensor,
        owned: true,
    })
}

fn recycle(grad: Gradient) {
    if grad.owned {
        take_out(&grad.tensor);
    }
}

/// What stands for an argument in the graph.
#[derive(Clone)]
enum Parent {
    /// The token of another call.
    Call(Link),
    Tensor(Tensor),
}

impl Parent {
    fn of(arg: &Tensor) -> Self {
        match links(|links| links.get(&arg.id()).cloned()) {
            Some(link) => Self::Call(link),
            None => Self::Tensor(arg.clone()),
        }
    }

    fn node(&self) -> &Tensor {
        match self {
            Self::Call(link) => &link.token,
            Self::Tensor(t) => t,
        }
    }
}

/// The tensor of a kernel that was called with `args`, some of which are tracked, and gave `storage`.
pub(crate) fn record(
    kernel: Box<dyn Kernel>,
    args: Vec<Tensor>,
    (storage, shape): (CpuStorage, Shape),
) -> Result<Tensor> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let parents = args.iter().enumerate().filter(|(_, arg)| arg.track_op());
    let parents: Vec<(usize, Parent)> = parents.map(|(i, arg)| (i, Parent::of(arg))).collect();
    let call = Arc::new(Call {
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        kernel,
        args,
        output: OnceLock::new(),
    });
    let token = inputs(&call, &parents, true)?;
    let output = token.apply_op1(Output::new(call.clone(), (storage, shape)))?;
    // Set once only, as the call is new.
    call.output.set((output.detach(), output.id())).ok();
    links(|links| {
        links.insert(
            output.id(),
            Link {
                call: call.number,
                token,
            },
        )
    });
    Ok(output)
}

/// A token of these parents. Operations of candle have up to three arguments: of more parents, the third is a token of
/// the others.
fn inputs(call: &Arc<Call>, parents: &[(usize, Parent)], first: bool) -> Result<Tensor> {
    let (here, rest) = match parents.len() {
        0..=3 => (parents, None),
        _ => (&parents[..2], Some(inputs(call, &parents[2..], false)?)),
    };
    let mut nodes: Vec<&Tensor> = here.iter().map(|(_, p)| p.node()).collect();
    nodes.extend(&rest);
    let op = Inputs {
        call: call.clone(),
        here: here
            .iter()
            .map(|(i, p)| match p {
                Parent::Call(link) => (*i, Some(link.call)),
                Parent::Tensor(_) => (*i, None),
            })
            .collect(),
        first,
        last: rest.is_none(),
    };
    match nodes[..] {
        [a] => a.apply_op1(op),
        [a, b] => a.apply_op2(b, op),
        [a, b, c] => a.apply_op3(b, c, op),
        _ => Err(Error::msg(
            "a kernel without tracked arguments was recorded",
        )),
    }
}

impl Call {
    /// The gradients of the arguments; what was left for the output is used up.
    fn gradients(&self) -> Result<Vec<Option<Gradient>>> {
        let Some((output, _)) = self.output.get() else {
            return Err(Error::msg("an operation has no output yet"));
        };
        let left = LEFT.with_borrow_mut(|left| left.remove(&self.number));
        let Some(left) = left else {
            // Nobody who took the output depends on it.
            let zeros = |t: &Tensor| -> Result<Option<Gradient>> {
                Ok(match t.track_op() {
                    true => Some(Gradient {
                        tensor: t.zeros_like()?,
                        owned: false,
                    }),
                    false => None,
                })
            };
            return self.args.iter().map(zeros).collect();
        };
        let needs: Vec<bool> = self.args.iter().map(Tensor::track_op).collect();
        let detached: Vec<Tensor> = self.args.iter().map(Tensor::detach).collect();
        let grad = left.tensor.contiguous()?;
        let grads = self.kernel.backward(&detached, &needs, output, &grad)?;
        let owned = self.kernel.gradients_are_new();
        if owned {
            recycle(left);
        }
        let grads = grads.into_iter().zip(&needs).map(|(grad, &needed)| {
            grad.filter(|_| needed)
                .map(|tensor| Gradient { tensor, owned })
        });
        Ok(grads.collect())
    }
}

#[cfg(test)]
mod tests;
