package main

import (
	_ "embed"
	"strings"
)

//go:embed postgres.sh
var postgresScript string

//go:embed redis.sh
var redisScript string

// service is one image.
type service struct {
	// names are those of the image in the layout; the first is the service's own.
	names []string
	// layers are made of packages of Debian 12, without their scripts.
	layers []packages
	// programs must run in the image: a library that is missing is found so.
	programs [][]string
	// template asks for a database cluster that initdb has filled.
	template bool

	entrypoint, cmd, env []string
	user, workDir        string
	volumes, ports       []string
}

// packages are the content of a layer. Equal names are built once.
type packages struct {
	name string
	// debs are names of packages.
	debs string
	// dirs are empty directories, "path mode uid".
	dirs []string
	// links are "path target".
	links []string
	// files are contents by path; scripts are executable.
	files, scripts map[string]string
}

const searchPath = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

// applets are the commands of busybox that scripts of services and of tests use.
const applets = `ash awk base64 basename cat chmod chown cp cut date dd df dirname du echo env expr false find grep head
	hostname httpd id install kill ln ls md5sum mkdir mktemp mv nc nproc od printenv printf ps pwd readlink realpath rm rmdir
	sed seq sh sha256sum sleep sort stat sync tail tar tee test time timeout touch tr true uname uniq wc wget which xargs yes`

func shell(name, debs string) packages {
	p := packages{
		name: name, debs: debs,
		dirs: []string{"dev 0755 0", "etc 0755 0", "proc 0755 0", "root 0700 0", "run 0755 0", "sys 0755 0", "tmp 1777 0"},
		files: map[string]string{
			"etc/passwd": "root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70:postgres:/var/lib/postgresql:/bin/sh\n" +
				"redis:x:999:999:redis:/data:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
			"etc/group":         "root:x:0:\npostgres:x:70:\nredis:x:999:\nnogroup:x:65534:\n",
			"etc/hosts":         "127.0.0.1 localhost\n",
			"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		},
	}
	for applet := range strings.FieldsSeq(applets) {
		p.links = append(p.links, "bin/"+applet+" busybox")
	}
	return p
}

const cLibrary = "busybox-static libc6 libc-bin libgcc-s1 zlib1g"

// Perl and LLVM are left out on purpose: no test needs a compiler in its database.
const postgresDebs = `postgresql-15 postgresql-client-15 libpq5 tzdata libxml2 libpam0g libssl3 libgssapi-krb5-2 libkrb5-3
	libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1 libldap-2.5-0 libsasl2-2 libicu72 libstdc++6 libsystemd0 liblz4-1
	libzstd1 liblzma5 libaudit1 libcap-ng0 libcap2 libgcrypt20 libgpg-error0 libreadline8 libtinfo6 libgnutls30 libp11-kit0
	libffi8 libidn2-0 libunistring2 libtasn1-6 libnettle8 libhogweed6 libgmp10`

const redisDebs = `redis-server redis-tools libjemalloc2 liblua5.1-0 lua-cjson lua-bitop libatomic1 libhiredis0.14 liblzf1
	libssl3 libsystemd0 libstdc++6 liblz4-1 libzstd1 liblzma5 libcap2 libgcrypt20 libgpg-error0`

const postgresBin = "usr/lib/postgresql/15/bin/"

func postgresLinks() []string {
	var out []string
	for _, program := range []string{"initdb", "pg_ctl", "pg_dump", "pg_isready", "pg_restore", "postgres", "psql"} {
		out = append(out, "usr/local/bin/"+program+" ../../../"+postgresBin+program)
	}
	return out
}

// table is everything that is built.
var table = []service{
	{
		names: []string{"busybox:1", "busybox:latest"}, layers: []packages{shell("busybox", "busybox-static")},
		programs: [][]string{{"/bin/sh", "-c", "true"}}, cmd: []string{"sh"}, env: []string{searchPath},
	},
	{
		names: []string{"redis:7"},
		layers: []packages{shell("base", cLibrary), {
			name: "redis", debs: redisDebs, dirs: []string{"data 0755 999"}, scripts: map[string]string{"usr/local/bin/docker-entrypoint.sh": redisScript},
		}},
		programs:   [][]string{{"redis-server", "--version"}, {"redis-cli", "--version"}},
		entrypoint: []string{"docker-entrypoint.sh"}, cmd: []string{"redis-server"}, env: []string{searchPath},
		user: "redis", workDir: "/data", volumes: []string{"/data"}, ports: []string{"6379/tcp"},
	},
	{
		names: []string{"postgres:15"},
		layers: []packages{shell("base", cLibrary), {
			name: "postgres", debs: postgresDebs, links: postgresLinks(),
			dirs:    []string{"var/lib/postgresql 0755 70", "var/lib/postgresql/data 0755 70", "run/postgresql 0755 70", "docker-entrypoint-initdb.d 0755 0"},
			scripts: map[string]string{"usr/local/bin/docker-entrypoint.sh": postgresScript},
		}},
		programs: [][]string{{"postgres", "--version"}, {"psql", "--version"}, {"pg_isready", "--version"}}, template: true,
		entrypoint: []string{"docker-entrypoint.sh"}, cmd: []string{"postgres"},
		env:  []string{searchPath, "PGDATA=/var/lib/postgresql/data/pgdata", "PGTEMPLATE=/var/lib/postgresql/template", "LANG=C.UTF-8"},
		user: "postgres", volumes: []string{"/var/lib/postgresql/data"}, ports: []string{"5432/tcp"},
	},
}
