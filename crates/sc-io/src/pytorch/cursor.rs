//! Reads the operands of pickle instructions.

use super::error::Fault;

/// The longest decimal integer that is accepted (Python's own default limit); converting takes quadratic time.
const MAX_DIGITS: usize = 4300;

/// A position in a pickle.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Where the next read starts.
    pub(super) position: usize,
    /// Where the instruction that is being executed starts.
    pub(super) instruction: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self {
            bytes,
            position,
            instruction: position,
        }
    }

    pub(super) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault::new(self.instruction, what)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.position..).unwrap_or(&[]);
        let Some(taken) = rest.get(..count) else {
            return Err(self.fault(format!(
                "wants {count} more bytes, but the pickle ends after {}",
                rest.len()
            )));
        };
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut word = [0_u8; N];
        word.copy_from_slice(self.take(N)?);
        Ok(word)
    }

    pub(super) fn opcode(&mut self) -> Result<u8, Fault> {
        self.instruction = self.position;
        self.u8()
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Fault> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A big-endian float, as BINFLOAT has it.
    pub(super) fn f64(&mut self) -> Result<f64, Fault> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// A length of one, four or eight bytes.
    pub(super) fn length(&mut self, width: usize) -> Result<usize, Fault> {
        let length = match width {
            1 => u64::from(self.u8()?),
            4 => u64::from(self.u32()?),
            _ => u64::from_le_bytes(self.array()?),
        };
        usize::try_from(length).map_err(|_| self.fault(format!("declares {length} bytes")))
    }

    /// Bytes behind their length.
    pub(super) fn sized(&mut self, width: usize) -> Result<&'a [u8], Fault> {
        let length = self.length(width)?;
        self.take(length)
    }

    /// Text behind its length. Python allows lone surrogates, which UTF-8 does not: they become U+FFFD.
    pub(super) fn sized_text(&mut self, width: usize) -> Result<std::borrow::Cow<'a, str>, Fault> {
        Ok(String::from_utf8_lossy(self.sized(width)?))
    }

    /// Text up to the end of the line.
    pub(super) fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = self.bytes.get(self.position..).unwrap_or(&[]);
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.fault("a line of text does not end"));
        };
        let line = self.take(end)?;
        self.position += 1;
        std::str::from_utf8(line).map_err(|_| self.fault("a line of text is not UTF-8"))
    }

    /// A number in decimal digits.
    pub(super) fn decimal<T: std::str::FromStr>(&mut self) -> Result<T, Fault> {
        let line = self.line()?;
        line.trim()
            .parse()
            .map_err(|_| self.fault(format!("wants a number, found {:?}", shorten(line))))
    }

    /// A whole number of any size in decimal digits, with Python 2's suffix `L`, as two's complement.
    pub(super) fn decimal_integer(&mut self) -> Result<Vec<u8>, Fault> {
        let line = self.line()?;
        let text = line.trim();
        let text = text.strip_suffix('L').unwrap_or(text);
        let (negative, digits) = text
            .strip_prefix('-')
            .map_or((false, text), |digits| (true, digits));
        if digits.is_empty()
            || digits.len() > MAX_DIGITS
            || !digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(self.fault(format!("wants a whole number, found {:?}", shorten(line))));
        }
        Ok(twos_complement(digits, negative))
    }
}

/// Decimal digits as a little-endian two's complement number, with at least one spare bit for the sign.
fn twos_complement(digits: &str, negative: bool) -> Vec<u8> {
    let mut bytes = vec![0_u8];
    for digit in digits.bytes() {
        let mut carry = u16::from(digit - b'0');
        for byte in &mut bytes {
            let [low, high] = (u16::from(*byte) * 10 + carry).to_le_bytes();
            *byte = low;
            carry = u16::from(high);
        }
        let [low, _] = carry.to_le_bytes();
        if low > 0 {
            bytes.push(low);
        }
    }
    bytes.push(0);
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    bytes
}

/// A two's complement number as `i64`, where it fits.
pub(super) fn small_integer(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let mut word = [fill; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    let value = i64::from_le_bytes(word);
    let rest_is_sign = bytes
        .get(8..)
        .unwrap_or(&[])
        .iter()
        .all(|&byte| byte == fill);
    (rest_is_sign && (value < 0) == negative).then_some(value)
}

/// The beginning of a text, for messages.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() > 60 {
        text.chars().take(60).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn integers_keep_their_sign_and_size() {
        for value in [
            0_i64,
            1,
            -1,
            127,
            128,
            -128,
            -129,
            255,
            256,
            i64::MAX,
            i64::MIN,
        ] {
            let text = value.to_string();
            let digits = text.trim_start_matches('-');
            assert_eq!(
                small_integer(&twos_complement(digits, value < 0)),
                Some(value)
            );
        }
        assert_eq!(
            small_integer(&twos_complement("9223372036854775808", false)),
            None
        );
        assert_eq!(
            small_integer(&twos_complement("9223372036854775809", true)),
            None
        );
        assert_eq!(small_integer(&[]), Some(0));
        assert_eq!(small_integer(&[0xff]), Some(-1));
    }
}
