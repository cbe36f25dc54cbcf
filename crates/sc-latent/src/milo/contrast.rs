//! Contrasts: linear combinations of coefficients, as text.

/// Reads `conditionB - (conditionA + conditionC) / 2` as one weight for each of `names`.
///
/// Names are matched as they are, the longest first, so that they may hold any characters.
pub(super) fn parse_contrast(text: &str, names: &[String]) -> Result<Vec<f64>, String> {
    let mut reader = Reader { rest: text, names };
    let value = reader.sum()?;
    reader.rest = reader.rest.trim_start();
    if !reader.rest.is_empty() {
        return Err(format!("\"{}\" is not understood", reader.rest));
    }
    if value.constant != 0.0 {
        return Err("a number is added to coefficients".into());
    }
    if value.weights.iter().all(|&w| w == 0.0) {
        return Err("all weights are 0".into());
    }
    Ok(value.weights)
}

/// `constant + sum_j weights_j coefficient_j`.
struct Value {
    constant: f64,
    weights: Vec<f64>,
}

impl Value {
    fn scaled(mut self, by: f64) -> Self {
        self.constant *= by;
        self.weights.iter_mut().for_each(|w| *w *= by);
        self
    }

    fn number(&self) -> Option<f64> {
        self.weights
            .iter()
            .all(|&w| w == 0.0)
            .then_some(self.constant)
    }
}

struct Reader<'a> {
    rest: &'a str,
    names: &'a [String],
}

impl Reader<'_> {
    fn take(&mut self, symbol: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut total = self.product()?;
        loop {
            let sign = if self.take('+') {
                1.0
            } else if self.take('-') {
                -1.0
            } else {
                return Ok(total);
            };
            let next = self.product()?.scaled(sign);
            total.constant += next.constant;
            total
                .weights
                .iter_mut()
                .zip(next.weights)
                .for_each(|(a, b)| *a += b);
        }
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut value = self.factor()?;
        loop {
            if self.take('*') {
                let next = self.factor()?;
                value = match (value.number(), next.number()) {
                    (_, Some(by)) => value.scaled(by),
                    (Some(by), None) => next.scaled(by),
                    (None, None) => return Err("two coefficients are multiplied".into()),
                };
            } else if self.take('/') {
                match self.factor()?.number() {
                    Some(by) if by != 0.0 => value = value.scaled(1.0 / by),
                    _ => return Err("it divides by something else than a number".into()),
                }
            } else {
                return Ok(value);
            }
        }
    }

    fn factor(&mut self) -> Result<Value, String> {
        if self.take('-') {
            return Ok(self.factor()?.scaled(-1.0));
        }
        let mut weights = vec![0.0; self.names.len()];
        // Names first: that of an intercept or an interaction begins with a parenthesis or holds a colon.
        let found = self
            .names
            .iter()
            .enumerate()
            .filter(|(_, n)| self.rest.starts_with(n.as_str()));
        if let Some((j, name)) = found.max_by_key(|(_, n)| n.len()) {
            self.rest = &self.rest[name.len()..];
            weights[j] = 1.0;
            return Ok(Value {
                constant: 0.0,
                weights,
            });
        }
        if self.take('(') {
            let inner = self.sum()?;
            return if self.take(')') {
                Ok(inner)
            } else {
                Err("a parenthesis is not closed".into())
            };
        }
        let digits = self.rest.len()
            - self
                .rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (number, rest) = self.rest.split_at(digits);
        match number.parse() {
            Ok(constant) => {
                self.rest = rest;
                Ok(Value { constant, weights })
            }
            Err(_) => Err(format!(
                "\"{}\" begins with none of the coefficients {}",
                self.rest,
                self.names.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_read() {
        let names = ["(Intercept)", "A", "AB", "A:x-1"].map(str::to_owned);
        let is = |text, expected: [f64; 4]| {
            assert_eq!(
                parse_contrast(text, &names),
                Ok(expected.to_vec()),
                "{text}"
            );
        };
        is("AB - A", [0.0, -1.0, 1.0, 0.0]);
        is(" A:x-1 -(A + AB)/2 ", [0.0, -0.5, -0.5, 1.0]);
        is("2*A - AB*0.5", [0.0, 2.0, -0.5, 0.0]);
        is("-A--AB", [0.0, -1.0, 1.0, 0.0]);
        is("(Intercept)+A", [1.0, 1.0, 0.0, 0.0]);
        is("(2+1)/3*A", [0.0, 1.0, 0.0, 0.0]);
        for bad in ["", "A + 1", "A*AB", "A/0", "B", "(A", "A A", "A - A", "1/A"] {
            assert!(parse_contrast(bad, &names).is_err(), "{bad}");
        }
    }
}
