//! Where panels stand.

use serde::Serialize;

/// Columns of the grid.
pub const WIDTH: u32 = 12;

/// A panel's place in a grid of [`WIDTH`] columns; a row is about 60 pixels high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Puts panels of these widths and heights side by side from left to right; what finds no room goes below the
/// highest of the line before.
pub(crate) fn flow(sizes: &[(u32, u32)]) -> Vec<Place> {
    let (mut x, mut y, mut tallest) = (0, 0, 0);
    let place = |&(width, height): &(u32, u32)| {
        if x + width > WIDTH {
            (x, y, tallest) = (0, y + tallest, 0);
        }
        let place = Place { x, y, width, height };
        (x, tallest) = (x + width, tallest.max(height));
        place
    };
    sizes.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::{Place, flow};

    #[test]
    fn panels_fill_lines_and_never_overlap() {
        let places = flow(&[(12, 1), (6, 4), (3, 2), (6, 4), (6, 5)]);
        let place = |x, y, width, height| Place { x, y, width, height };
        let expected =
            [place(0, 0, 12, 1), place(0, 1, 6, 4), place(6, 1, 3, 2), place(0, 5, 6, 4), place(6, 5, 6, 5)];
        assert_eq!(places, expected);
    }
}
