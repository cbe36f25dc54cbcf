//! The committed files: one value of every type, and the layout before torch 1.6.

use super::fixture;
use crate::pytorch::*;

fn f64s(value: &Value, name: &str) -> Vec<f64> {
    value
        .at(&["state", name])
        .unwrap()
        .as_tensor()
        .unwrap()
        .to_f64_vec()
}

#[test]
fn every_type_that_torch_and_numpy_write() {
    let value = read(fixture("types.pt")).unwrap();
    for name in [
        "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
        "float16", "bfloat16", "float32", "float64",
    ] {
        let tensor = value.at(&["state", name]).unwrap().as_tensor().unwrap();
        assert_eq!(
            (tensor.dtype().to_string().as_str(), tensor.shape()),
            (name, [2, 2].as_slice())
        );
        let wanted = if name == "bool" {
            [0.0, 1.0, 1.0, 0.0]
        } else {
            [0.0, 1.0, 100.0, 3.0]
        };
        assert_eq!(tensor.to_f64_vec(), wanted, "{name}");
        assert_eq!(
            tensor.to_f32_vec(),
            wanted.map(|number| number as f32),
            "{name}"
        );
    }
    assert_eq!(f64s(&value, "negative"), [-1.0, -2.0]);
    assert_eq!(f64s(&value, "half"), [0.5, -65504.0, 2.0_f64.powi(-24)]);
    assert_eq!(
        f64s(&value, "transposed"),
        [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]
    );
    assert_eq!(f64s(&value, "window"), [5.0, 6.0, 7.0, 8.0]);
    assert_eq!(f64s(&value, "expanded"), [3.0; 6]);
    assert_eq!(f64s(&value, "scalar"), [2.5]);
    assert_eq!(f64s(&value, "empty"), [0.0; 0]);
    assert_eq!(f64s(&value, "parameter"), [1.0, 2.0]);
    assert!(
        value
            .at(&["state", "complex"])
            .unwrap()
            .as_opaque()
            .is_some()
    );

    let array = |name: &str| value.get(name).unwrap().as_array().unwrap();
    assert_eq!(
        (
            array("fortran").shape(),
            array("fortran").to_i64_vec().unwrap()
        ),
        ([2, 3].as_slice(), vec![0, 1, 2, 3, 4, 5])
    );
    assert_eq!(array("big_endian").to_f64_vec().unwrap(), [0.0, 1.0, 2.0]);
    assert_eq!(array("fixed").to_strings().unwrap(), ["abc", "é"]);
    assert_eq!(
        array("objects").to_values(),
        [
            Value::from("x"),
            Value::Int(0),
            Value::None,
            Value::Float(1.5)
        ]
    );
    assert!(array("objects").to_f64_vec().is_err() && array("objects").to_strings().is_err());
    assert_eq!(
        array("bools").to_values(),
        [Value::Bool(true), Value::Bool(false)]
    );
    assert_eq!(
        value.get("scalars").unwrap(),
        &Value::list(vec![Value::Float(1.5), Value::Int(-3), Value::Bool(true)])
    );
    assert_eq!(value.get("bytes").unwrap(), &Value::Bytes([0, 255].into()));
    assert_eq!(
        value.get("big").unwrap(),
        &Value::BigInt([0, 0, 0, 0, 0, 0, 0, 0, 64].into())
    );
    assert_eq!(value.get("negative").unwrap().as_i64(), Some(-(1 << 40)));
    assert_eq!(
        value.get("set").unwrap(),
        &Value::Set(vec![Value::Int(1)].into())
    );
    assert_eq!(
        value.get("frozen").unwrap(),
        &Value::FrozenSet(vec![Value::Int(2)].into())
    );
    assert_eq!(
        value.get("size").unwrap().as_slice().unwrap(),
        [Value::Int(2), Value::Int(3)]
    );
    assert_eq!(
        &*value.get("dtype").unwrap().as_opaque().unwrap().class,
        "torch.float32"
    );
    assert_eq!(
        value.at(&["default", "k"]).unwrap().as_slice().unwrap(),
        [Value::Int(1)]
    );
    assert_eq!(value.get("text").unwrap().as_str(), Some("tab\té😀"));
    assert!(
        value
            .as_dict()
            .unwrap()
            .entries
            .iter()
            .any(|(key, _)| *key == Value::Int(5))
    );
    assert_eq!(value.get("again"), value.get("objects"));
    assert!(
        value
            .at(&["state", "missing"])
            .unwrap_err()
            .to_string()
            .contains("state/missing")
    );
}

#[test]
fn pandas_frames_of_several_blocks() {
    let value = read(fixture("types.pt")).unwrap();
    let frame = DataFrame::from_value(value.get("frame").unwrap()).unwrap();
    assert_eq!(
        (frame.columns, frame.index, frame.index_name.as_deref()),
        (
            vec!["a".into(), "b".into(), "n".into()],
            vec![0.0, 1.0],
            Some("epoch")
        )
    );
    assert_eq!(
        (&frame.values[0], &frame.values[2]),
        (&vec![1.5, 2.5], &vec![7.0, 8.0])
    );
    assert!(frame.values[1][0] == 3.5 && frame.values[1][1].is_nan());
    let frame = DataFrame::from_value(value.get("range_frame").unwrap()).unwrap();
    assert_eq!(
        (frame.columns, frame.index, frame.index_name),
        (vec!["x".into()], vec![0.0, 1.0], None)
    );
    assert_eq!(frame.values, [[1.0, 2.0]]);
    assert!(DataFrame::from_value(&Value::None).is_err());
}

#[test]
fn the_layout_before_torch_1_6() {
    let value = read(fixture("legacy.pt")).unwrap();
    let a = value.get("a").unwrap().as_tensor().unwrap();
    assert_eq!(
        (a.shape(), &a.to_f32_vec()[..4]),
        ([4, 3].as_slice(), [0.0, 4.0, 8.0, 1.0].as_slice())
    );
    assert_eq!(
        value
            .get("b")
            .unwrap()
            .as_tensor()
            .unwrap()
            .to_i64_vec()
            .unwrap(),
        [1, 2, 3]
    );
    let whole = std::fs::read(fixture("legacy.pt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for length in 0..whole.len() {
        std::fs::write(folder.path().join("x.pt"), &whole[..length]).unwrap();
        assert!(read(folder.path().join("x.pt")).is_err(), "{length}");
    }
}
