//! Pickles numpy arrays and torch tensors: as calls of the functions that their libraries rebuild them with.

use std::sync::Arc;

use super::array::{ArrayData, NumpyArray};
use super::pickler::{Pickler, Seen, Step};
use super::tensor::TorchTensor;
use super::value::Value;

impl Pickler {
    fn usizes(&mut self, numbers: &[usize]) -> Step {
        let items: Vec<Value> = numbers.iter().map(|&number| integer(number)).collect();
        self.tuple(&items, 0)
    }

    /// `_reconstruct(ndarray, (0,), b"b")` with the state `(1, shape, dtype, is_fortran, elements)`.
    pub(super) fn array(&mut self, array: &NumpyArray, depth: usize) -> Step {
        self.global("numpy.core.multiarray", "_reconstruct")?;
        self.global("numpy", "ndarray")?;
        self.usizes(&[0])?;
        self.bytes(b"b")?;
        self.out.extend([0x87, b'R', b'(', b'K', 1]);
        self.usizes(array.shape())?;
        match array.data() {
            ArrayData::Numbers { dtype, bytes } => {
                let code = dtype.numpy_code().ok_or_else(|| {
                    format!("a numpy array of {dtype}, which numpy does not have: make it a tensor")
                })?;
                let order = if dtype.size() == 1 { "|" } else { "<" };
                self.dtype(code, order, [-1, -1, 0])?;
                self.out.push(0x89);
                self.bytes(bytes)?;
            }
            ArrayData::Text { width, items } => {
                let longest = items
                    .iter()
                    .map(|item| item.chars().count())
                    .max()
                    .unwrap_or(0)
                    .max(*width);
                let size = i64::try_from(longest)
                    .map_err(|_| "text that is too long".to_owned())?
                    .saturating_mul(4);
                self.dtype(&format!("U{longest}"), "<", [size, 4, 8])?;
                self.out.push(0x89);
                let bytes: Vec<u8> = items
                    .iter()
                    .flat_map(|item| {
                        item.chars()
                            .map(u32::from)
                            .chain(std::iter::repeat(0))
                            .take(longest)
                    })
                    .flat_map(u32::to_le_bytes)
                    .collect();
                self.bytes(&bytes)?;
            }
            ArrayData::Objects(items) => {
                self.dtype("O8", "|", [-1, -1, 63])?;
                self.out.push(0x89);
                self.list(items, depth)?;
            }
        }
        self.out.extend([b't', b'b']);
        Ok(())
    }

    /// `dtype(code, False, True)` with the state `(3, order, None, None, None, size, alignment, flags)`.
    fn dtype(&mut self, code: &str, order: &str, layout: [i64; 3]) -> Step {
        self.once(Seen::DType(code.to_owned()), |this| {
            this.global("numpy", "dtype")?;
            this.text(&Arc::from(code))?;
            this.out.extend([0x89, 0x88, 0x87, b'R', b'(', b'K', 3]);
            this.text(&Arc::from(order))?;
            this.out.extend(b"NNN");
            for number in layout {
                this.int(number);
            }
            this.out.extend([b't', b'b']);
            Ok(())
        })
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks)`; the types without a storage class
    /// take `_rebuild_tensor_v3` with their name behind, and a storage that counts bytes.
    pub(super) fn tensor(&mut self, tensor: &TorchTensor) -> Step {
        let class = tensor.dtype().torch_storage();
        let function = if class.is_some() {
            "_rebuild_tensor_v2"
        } else {
            "_rebuild_tensor_v3"
        };
        self.global("torch._utils", function)?;
        self.out.extend([b'(', b'(']);
        self.text(&Arc::from("storage"))?;
        match class {
            Some(class) => self.global("torch", class)?,
            None => self.global("torch.storage", "UntypedStorage")?,
        }
        let storage = tensor.storage();
        let next = self.storages.len();
        let key = *self
            .keys
            .entry((Arc::as_ptr(storage).addr(), class.map(|_| tensor.dtype())))
            .or_insert(next);
        if key == next {
            self.storages.push(storage.clone());
        }
        self.text(&Arc::from(key.to_string()))?;
        self.text(&Arc::from("cpu"))?;
        let width = if class.is_some() {
            tensor.dtype().size()
        } else {
            1
        };
        self.value(&integer(storage.len() / width), 0)?;
        self.out.extend([b't', b'Q']);
        self.value(&integer(tensor.offset()), 0)?;
        self.usizes(tensor.shape())?;
        self.usizes(tensor.stride())?;
        self.out.push(0x89);
        self.global("collections", "OrderedDict")?;
        self.out.extend([b')', b'R']);
        if class.is_none() {
            self.global("torch", &tensor.dtype().to_string())?;
        }
        self.out.extend([b't', b'R']);
        Ok(())
    }
}

fn integer(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
