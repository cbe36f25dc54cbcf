//! What is written reads back equal.

use crate::pytorch::*;

fn back(value: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    write(&path, value).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file was left"
    );
    read(&path).unwrap()
}

fn sample() -> Value {
    let shared = Value::from("a text that occurs twice");
    let frame = DataFrame {
        columns: vec!["elbo_train".into(), "kl".into()],
        index: vec![0.0, 1.0, 2.0],
        index_name: Some("epoch".into()),
        values: vec![vec![3.0, 2.0, f64::NAN], vec![-0.0, 1e-300, f64::INFINITY]],
    };
    let every_dtype = [
        DType::Bool,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];
    let tensors = every_dtype.map(|dtype| {
        (
            dtype.to_string(),
            TorchTensor::from_bytes(
                dtype,
                &[2, 1],
                (0..2 * dtype.size()).map(|at| (at % 2) as u8).collect(),
            )
            .unwrap()
            .into(),
        )
    });
    let arrays = every_dtype
        .into_iter()
        .filter(|dtype| *dtype != DType::BF16)
        .map(|dtype| {
            let data = ArrayData::Numbers {
                dtype,
                bytes: vec![1; 3 * dtype.size()].into(),
            };
            (
                dtype.to_string(),
                NumpyArray::new(&[1, 3], data).unwrap().into(),
            )
        });
    let long: Vec<Value> = (0..1000).map(Value::Int).collect();
    let ints = [
        0,
        255,
        256,
        -1,
        i64::from(i32::MIN),
        i64::from(i32::MAX) + 1,
        i64::MIN,
        i64::MAX,
    ]
    .map(Value::Int)
    .to_vec();
    Dict::from_pairs([
        ("state", Dict::ordered(tensors).into()),
        ("arrays", Dict::from_pairs(arrays).into()),
        ("scalar", TorchTensor::from_f32(&[], &[1.5]).unwrap().into()),
        ("empty", TorchTensor::from_f64(&[0, 3], &[]).unwrap().into()),
        ("names", NumpyArray::from_strings(["A1BG", "Ä", ""]).into()),
        (
            "objects",
            NumpyArray::from_values(vec![Value::Int(0), Value::from("x"), Value::None]).into(),
        ),
        (
            "fixed",
            NumpyArray::new(
                &[2],
                ArrayData::Text {
                    width: 3,
                    items: vec!["abc".into(), "é".into()],
                },
            )
            .unwrap()
            .into(),
        ),
        ("ints", Value::list(ints)),
        ("big", Value::BigInt(vec![0x7f; 300].into())),
        (
            "floats",
            Value::list([0.1, f64::NAN, -0.0].map(Value::Float).to_vec()),
        ),
        (
            "bytes",
            Value::list(vec![
                Value::Bytes([].into()),
                Value::Bytes((0..=255).collect()),
            ]),
        ),
        (
            "tuples",
            Value::tuple(
                (0..5)
                    .map(|count| Value::tuple(ints_up_to(count)))
                    .collect(),
            ),
        ),
        ("set", Value::Set(ints_up_to(3).into())),
        ("frozen", Value::FrozenSet(ints_up_to(3).into())),
        (
            "factory",
            Dict {
                kind: DictKind::Default(Some("builtins.dict".into())),
                ..Dict::default()
            }
            .into(),
        ),
        ("history", frame.to_value().unwrap()),
        (
            "truths",
            Value::list(vec![Value::Bool(true), Value::Bool(false), Value::None]),
        ),
        ("shared", Value::list(vec![shared.clone(), shared])),
        ("long", Value::list(long)),
    ])
    .into()
}

fn ints_up_to(count: i64) -> Vec<Value> {
    (0..count).map(Value::Int).collect()
}

#[test]
fn everything_writable_reads_back_equal() {
    let value = sample();
    let once = back(&value);
    for (name, wanted) in value.as_dict().unwrap().iter_str() {
        assert_eq!(once.get(name), Some(wanted));
    }
    assert!(back(&once) == value);
}

#[test]
fn data_frames_read_back_equal() {
    let value = back(&sample());
    let frame = DataFrame::from_value(value.get("history").unwrap()).unwrap();
    assert_eq!(
        (frame.columns.as_slice(), frame.index_name.as_deref()),
        (
            ["elbo_train".to_owned(), "kl".to_owned()].as_slice(),
            Some("epoch")
        )
    );
    assert_eq!(frame.index, [0.0, 1.0, 2.0]);
    assert_eq!(frame.values[0][..2], [3.0, 2.0]);
    assert!(frame.values[0][2].is_nan());
    assert_eq!(frame.values[1], [-0.0, 1e-300, f64::INFINITY]);
    assert!(
        DataFrame {
            columns: vec![],
            ..frame
        }
        .to_value()
        .is_err()
    );
}

#[test]
fn the_same_value_gives_the_same_bytes_with_aligned_entries() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = [1, 2].map(|run| {
        let path = folder.path().join(run.to_string()).join("model.pt");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        write(&path, &sample()).unwrap();
        std::fs::read(path).unwrap()
    });
    assert_eq!(bytes[0], bytes[1]);
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&bytes[0])).unwrap();
    for index in 0..zip.len() {
        let entry = zip.by_index(index).unwrap();
        assert_eq!(
            entry.data_start().unwrap() % 64,
            0,
            "{}",
            entry.name().unwrap()
        );
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored);
    }
    assert!(
        zip.index_for_name("model/data.pkl").is_some()
            && zip.index_for_name("model/byteorder").is_some()
    );
}

#[test]
fn objects_that_run_code_are_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    std::fs::write(&path, "the old file").unwrap();
    for hostile in [
        Value::from(Opaque::call("os.system", vec![Value::from("echo")])),
        Value::from(Opaque::global("builtins.eval")),
        Value::from(Dict {
            kind: DictKind::Default(Some("builtins.exec".into())),
            ..Dict::default()
        }),
    ] {
        let error = write(&path, &Value::list(vec![hostile])).unwrap_err();
        assert!(matches!(error, Error::Unwritable { .. }), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the old file");
    assert!(
        write(folder.path().join("missing/model.pt"), &Value::None)
            .unwrap_err()
            .to_string()
            .contains("missing")
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.h5");
    for (bytes, word) in [
        (b"\x89HDF".as_slice(), "neither"),
        (b"", "neither"),
        (b"\x80\x02N.", "read_pickle"),
        (b"PK\x03\x04", "zip"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(
            message.contains(word) && message.contains("model.h5"),
            "{message}"
        );
    }
}
