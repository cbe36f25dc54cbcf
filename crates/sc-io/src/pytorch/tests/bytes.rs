//! Single instructions, by hand: what Python's own pickle writes, and what it would refuse.

use crate::pytorch::{Construct, DictKind, Error, Value, parse_pickle};

fn parse(bytes: &[u8]) -> Value {
    parse_pickle(bytes).unwrap()
}

fn ints(values: &[i64]) -> Vec<Value> {
    values.iter().copied().map(Value::Int).collect()
}

#[test]
fn protocol_0_reads() {
    // {'a': [1, 2.5, None, True], 'b': 'x'}
    let pickle = b"(dp0\nVa\np1\n(lp2\nI1\naF2.5\naNaI01\nasVb\np3\nVx\np4\ns.";
    let value = parse(pickle);
    assert_eq!(
        value.get("a").unwrap(),
        &Value::list(vec![
            Value::Int(1),
            Value::Float(2.5),
            Value::None,
            Value::Bool(true)
        ])
    );
    assert_eq!(value.get("b").unwrap().as_str(), Some("x"));
    assert_eq!(
        parse(b"L-36893488147419103232L\n."),
        Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff].into())
    );
    assert_eq!(parse(b"S'a\\x41\\n'\n."), Value::from("aA\n"));
}

#[test]
fn protocol_4_reads() {
    // (b'ab', {1, 2}, 'é', 2**40)
    let pickle = b"\x80\x04\x95\x1d\0\0\0\0\0\0\0(C\x02ab\x94\x8f\x94(K\x01K\x02\x90\x8c\x02\xc3\xa9\x94\x8a\x06\0\0\0\0\0\x01t\x94.";
    let value = parse(pickle);
    let items = value.as_slice().unwrap();
    assert_eq!(items[0], Value::Bytes(b"ab".as_slice().into()));
    assert_eq!(items[1], Value::Set(ints(&[1, 2]).into()));
    assert_eq!(items[2].as_str(), Some("é"));
    assert_eq!(items[3], Value::Int(1 << 40));
}

#[test]
fn an_object_filled_after_it_was_memoised_is_seen_filled() {
    // x = []; (x, x) with the 1 appended in between
    assert_eq!(
        parse(b"(]q\0h\0K\x01a0h\0t."),
        Value::tuple(vec![Value::list(ints(&[1])), Value::list(ints(&[1]))])
    );
}

#[test]
fn an_object_that_contains_itself_ends() {
    let value = parse(b"]q\0h\0a.");
    assert!(
        value.as_slice().unwrap()[0]
            .as_opaque()
            .unwrap()
            .class
            .contains("contains")
    );
}

#[test]
fn foreign_objects_are_recorded_and_not_run() {
    let value = parse(b"cos\nsystem\n(S'echo'\ntR.");
    let object = value.as_opaque().unwrap();
    assert_eq!(
        (&*object.class, object.construct),
        ("os.system", Construct::Call)
    );
    assert_eq!(object.args, [Value::from("echo")]);
    // class, NEWOBJ, state
    let value = parse(b"\x80\x02cm\nC\n)\x81}X\x01\0\0\0aK\x07sb.");
    let object = value.as_opaque().unwrap();
    assert_eq!((&*object.class, object.construct), ("m.C", Construct::New));
    assert_eq!(object.attribute("a"), Some(&Value::Int(7)));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let value = parse(b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0aK\x01X\x01\0\0\0bK\x02X\x01\0\0\0aK\x03u.");
    let dict = value.as_dict().unwrap();
    assert_eq!(dict.kind, DictKind::Ordered);
    assert_eq!(
        dict.entries,
        [
            (Value::from("a"), Value::Int(3)),
            (Value::from("b"), Value::Int(2))
        ]
    );
}

#[test]
fn damage_is_located() {
    for (pickle, position, word) in [
        (b"\x80\x02K\x01\xff.".as_slice(), 4, "0xff"),
        (b"X\xff\xff\xff\x7fab", 0, "2147483647"),
        (b"K\x01K\x01", 4, "ends"),
        (b"K\x01K\x02a.", 4, "holds none"),
        (b"(K\x01u.", 3, "without a value"),
        (b"h\x05.", 0, "memo 5"),
        (b"e.", 0, "mark"),
        (b".", 0, "operands"),
        (b"K\x01(0.", 4, "x"),
    ] {
        match parse_pickle(pickle) {
            Err(Error::Pickle {
                position: found,
                what,
                ..
            }) => {
                assert_eq!(found, position, "{what}");
                assert!(what.contains(word), "{what}");
            }
            Ok(value) => assert_eq!((word, value), ("x", Value::Int(1))),
            Err(error) => panic!("{error}"),
        }
    }
}
