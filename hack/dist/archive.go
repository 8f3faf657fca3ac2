package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/connpool/connpool/hack/compile"
)

// entry is a file of an archive.
type entry struct {
	name    string
	mode    int64
	content []byte
}

// archives writes an archive of the plugin for each platform, and returns the paths
// of the programs in dir.
func (o *options) archives(ctx context.Context, dir string) ([]string, error) {
	license, err := os.ReadFile(filepath.Join(o.root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	var programs []string
	for _, p := range platforms {
		fmt.Printf("building %s; takes minutes the first time\n", p.archive())
		build := compile.Program{Root: o.root, Version: o.version, OS: p.os, Arch: p.arch}
		program, err := build.Build(ctx, plugin, filepath.Join(dir, p.os+"-"+p.arch))
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		packed, err := p.pack([]entry{{"LICENSE", 0o644, license}, {filepath.Base(program), 0o755, content}}, o.created)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", p.archive(), err)
		}
		if err := o.write(p.archive(), packed); err != nil {
			return nil, err
		}
		programs = append(programs, program)
	}
	return programs, nil
}

// archive is the name of the platform's archive. It has no version, so that the
// address of the latest release does not change.
func (p platform) archive() string {
	extension := ".tar.gz"
	if p.os == "windows" {
		extension = ".zip"
	}
	return "kubectl-connpool-" + p.os + "-" + p.arch + extension
}

// program is the name of the plugin in the archive.
func (p platform) program() string {
	if p.os == "windows" {
		return "kubectl-connpool.exe"
	}
	return "kubectl-connpool"
}

func (p platform) pack(files []entry, created time.Time) ([]byte, error) {
	if p.os == "windows" {
		return zipped(files, created)
	}
	return tarred(files, created)
}

// tarred returns a compressed tar file that says nothing of this machine: each file
// has the same time, and no owner.
func tarred(files []entry, created time.Time) ([]byte, error) {
	var out bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	writer := tar.NewWriter(compressed)
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: created}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	if err := compressed.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// untarred returns the files of a compressed tar file.
func untarred(archive []byte) ([]entry, error) {
	compressed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	var files []entry
	for reader := tar.NewReader(compressed); ; {
		header, err := reader.Next()
		if err == io.EOF { //nolint:errorlint // tar returns it as it is
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		files = append(files, entry{header.Name, header.Mode, content})
	}
}

func zipped(files []entry, created time.Time) ([]byte, error) {
	var out bytes.Buffer
	writer := zip.NewWriter(&out)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: created}
		header.SetMode(os.FileMode(f.mode))
		file, err := writer.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := file.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
