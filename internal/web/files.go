package web

import "embed"

//go:embed templates assets
var embedded embed.FS

func files() embed.FS { return embedded }
