//! Counts its arguments.

fn count(n: usize) -> String {
    let mut buffer = itoa::Buffer::new();
    format!("{} arguments", buffer.format(n))
}

fn main() {
    println!("{}", count(std::env::args().skip(1).count()));
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn none() {
        assert_eq!(count(0), "0 arguments");
    }

    #[test]
    fn many() {
        assert_eq!(count(1234), "1234 arguments");
    }
}
