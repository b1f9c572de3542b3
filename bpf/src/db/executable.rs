//! Where in a server's executable the probes go.

use std::fs::File;
use std::io;
use std::path::Path;

use object::read::ReadCache;
use object::read::elf::{ElfFile64, Sym};
use object::{Endianness, Object, ObjectSection, ObjectSegment, ReadRef};

use super::probes::Obstacle;

/// An executable of a database server, opened to look for its functions.
pub(super) struct Executable<'a> {
    elf: ElfFile64<'a, Endianness, &'a ReadCache<File>>,
    /// The names of what it exports, which its symbols point into.
    names: &'a [u8],
}

/// Opens a file so that only the parts of it that are looked at are read.
///
/// # Errors
/// When it can't be opened.
pub(super) fn open(path: &Path) -> io::Result<ReadCache<File>> {
    Ok(ReadCache::new(File::open(path)?))
}

impl<'a> Executable<'a> {
    /// Reads the ELF header of `file` and the names of what it exports; at once, because a server exports tens of
    /// thousands.
    ///
    /// # Errors
    /// When it can't be read, which looks no other than a file that is no 64-bit ELF file or exports nothing.
    pub(super) fn read(file: &'a ReadCache<File>) -> Result<Executable<'a>, Obstacle> {
        let failed = |what: &str, e| Obstacle::Passing(format!("reading {what}: {e}"));
        let elf = ElfFile64::parse(file).map_err(|e| failed("its ELF header", e))?;
        let names = elf.elf_dynamic_symbol_table().string_section();
        let names = elf.section_by_index(names).and_then(|section| section.data());
        let names = names.map_err(|e| failed("the names of what it exports", e))?;
        Ok(Executable { elf, names })
    }

    /// The place in the file of the function whose name is `name`, or begins so where it is a C++ name whose
    /// parameters differ from version to version.
    ///
    /// # Errors
    /// When the executable exports no such function.
    pub(super) fn function(&self, name: &str) -> Result<usize, Obstacle> {
        let mangled = name.starts_with("_Z");
        // libelf's users call the table of exported names `.dynsym`; servers export theirs for their plugins, so
        // that it is there in stripped files too.
        let endian = self.elf.endian();
        let found = self.elf.elf_dynamic_symbol_table().iter().find(|symbol| {
            let rest = self.names.get(symbol.st_name(endian) as usize..);
            let rest = rest.and_then(|rest| rest.strip_prefix(name.as_bytes()));
            symbol.is_definition(endian) && rest.is_some_and(|rest| mangled || rest.first() == Some(&b'\0'))
        });
        let symbol = found.ok_or_else(|| Obstacle::Lasting(format!("it exports no function {name}")))?;
        self.file_offset(symbol.st_value(endian))
            .ok_or_else(|| Obstacle::Lasting(format!("the function {name} is in none of its segments")))
    }

    /// The place in the file where the function's arguments are still in their registers, but behind its first instruction
    /// where that is one of the usual ones.
    ///
    /// # Errors
    /// As [`Executable::function`], and when its code can't be read.
    pub(super) fn behind_entry(&self, name: &str) -> Result<usize, Obstacle> {
        let start = self.function(name)?;
        Ok(start + entry_bytes(self.code(name, start)?))
    }

    /// Where a THD of this MariaDB keeps its statement, as its function `thd_query_string` computes it.
    ///
    /// # Errors
    /// When that function is missing, can't be read or isn't compiled to one of the known forms.
    pub(super) fn query_offset(&self) -> Result<u64, Obstacle> {
        const NAME: &str = "thd_query_string";
        displacement(self.code(NAME, self.function(NAME)?)?)
            .ok_or_else(|| Obstacle::Lasting(format!("its function {NAME} has an unknown form")))
    }

    /// The first instructions of a function.
    fn code(&self, name: &str, start: usize) -> Result<&'a [u8], Obstacle> {
        // As long as what is looked for can be; sections with data follow all code.
        const BYTES: u64 = 12;
        let code = self.elf.data().read_bytes_at(start as u64, BYTES);
        code.map_err(|()| Obstacle::Passing(format!("reading the code of its function {name} failed")))
    }

    fn file_offset(&self, address: u64) -> Option<usize> {
        self.elf.segments().find_map(|segment| {
            let inside = address.checked_sub(segment.address())?;
            let (offset, size) = segment.file_range();
            (inside < size).then_some((offset + inside) as usize)
        })
    }
}

/// What a function that takes part in Intel's control-flow enforcement begins with.
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// How many bytes of a function's code are instructions that touch no register with an argument in it: on x86-64
/// `endbr64`, then `push %rbp` and `mov %rsp,%rbp`, or the push of another register.
fn entry_bytes(code: &[u8]) -> usize {
    const PUSH: std::ops::RangeInclusive<u8> = 0x50..=0x57;
    let (endbr64, rest) = code.strip_prefix(ENDBR64).map_or((0, code), |rest| (ENDBR64.len(), rest));
    let push = match rest {
        [0x55, 0x48, 0x89, 0xe5, ..] => 4,
        [0x41, register, ..] if PUSH.contains(register) => 2,
        [register, ..] if PUSH.contains(register) => 1,
        _ => 0,
    };
    endbr64 + push
}

/// The displacement in the code of a function that returns its argument plus a constant: on x86-64 `endbr64` or
/// nothing, `lea displacement(%rdi),%rax`, `ret`.
fn displacement(code: &[u8]) -> Option<u64> {
    const RET: u8 = 0xc3;
    match code.strip_prefix(ENDBR64).unwrap_or(code) {
        [0x48, 0x8d, 0x47, byte, RET, ..] => Some((*byte).into()).filter(|byte| *byte < 0x80),
        [0x48, 0x8d, 0x87, a, b, c, d, RET, ..] => {
            Some(u32::from_le_bytes([*a, *b, *c, *d]).into()).filter(|offset| *offset < 1 << 20)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{displacement, entry_bytes};

    #[test]
    fn the_first_instructions_are_known_in_the_forms_that_compilers_make() {
        let table: [(&[u8], usize); 6] = [
            (&[0x55, 0x48, 0x89, 0xe5, 0x41, 0x57], 4),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x41], 8),
            (&[0x41, 0x57, 0x41, 0x56], 2),
            (&[0x55, 0x53, 0x48], 1),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x81, 0xec], 4),
            (&[0x48, 0x81, 0xec, 0x88], 0),
        ];
        for (code, expected) in table {
            assert_eq!(entry_bytes(code), expected, "{code:x?}");
        }
    }

    #[test]
    fn the_offset_is_read_from_the_forms_that_compilers_make() {
        let table: [(&[u8], Option<u64>); 6] = [
            (&[0x48, 0x8d, 0x47, 0x68, 0xc3, 0x66], Some(0x68)),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8d, 0x47, 0x68, 0xc3], Some(0x68)),
            (&[0x48, 0x8d, 0x87, 0x34, 0x12, 0, 0, 0xc3], Some(0x1234)),
            (&[0x48, 0x8d, 0x87, 0, 0, 0, 0xff, 0xc3], None),
            (&[0x48, 0x8d, 0x47, 0x68], None),
            (&[0x55, 0x48, 0x89, 0xe5], None),
        ];
        for (code, expected) in table {
            assert_eq!(displacement(code), expected, "{code:x?}");
        }
    }
}
