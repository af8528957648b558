// Package config reads the files in which a project is described and says where
// each setting came from.
//
// The project file is ggen.toml, found in a directory or above it. The files
// .ggen/config.toml and .cleanroom/config.toml beside it are read as well; what
// they define wins over the project file, and the environment wins over both.
// Every file is read strictly: an unknown key, a wrong type, an impossible
// value is an error of kind fault.Usage with its place.
//
// The package fills its own structs; whoever starts a phase maps them to the
// options of the phase. The environment is handed in as a function. The package
// writes nothing and never guesses a value that a file gives wrongly.
package config
