// Package edit changes single values in configuration files that people wrote.
//
// What is not changed stays byte for byte: comments, order, indentation, line endings.
// What is changed is proven by parsing the result again: either the whole file means
// what it meant before and the new values, or the edit fails and says at which line.
// An edit that changes nothing returns the file as it was.
//
// The package reads and writes no files, and knows no runtime.
package edit
