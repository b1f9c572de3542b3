//! File names.
/// stub
pub struct FileId;
/// stub
pub struct FileName;
