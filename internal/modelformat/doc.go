// Package modelformat tells what a folder of model files is, without loading any of them: the names that serving
// runtimes know formats by, the file that shows it, and whether loading the model runs code that came with it.
//
// Its main types are [Found], which [Detect] returns, and [Code], one file that runs code when it is loaded. It reads
// heads, directories of archives and the opcodes of pickles, all within bounds; it never unpickles, imports or executes
// anything, follows no link and unpacks nothing to the disk. The list of what a pickle imports helps a reader to judge
// it; nothing concludes from that list that a pickle is harmless.
package modelformat
