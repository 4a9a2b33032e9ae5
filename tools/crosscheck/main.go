// Command crosscheck type-checks the packages of the module in the working
// directory, as the compiler would, for each platform named on the command line:
//
//	crosscheck linux/arm64 windows/amd64 ...
//
// It reads everything from source, dependencies and standard library included,
// and skips the function bodies of what is not ours. A file that uses a syscall
// its platform lacks, a missing portable fallback, a constant that overflows an
// int: it reports what `go build` would, and needs no compiled dependency, which
// a cross-build from an empty cache spends nearly all of its time on. What only
// the assembler and the linker can find is left to `make cross`.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

// reportedFaultsMax is how many faults are printed.
const reportedFaultsMax = 50

func main() {
	debug.SetGCPercent(400) // short-lived and bound by the collector otherwise
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: crosscheck GOOS/GOARCH...")
		os.Exit(2)
	}
	platforms := os.Args[1:]
	faults := make([][]error, len(platforms))
	c := &checker{fset: token.NewFileSet(), files: map[string]*parsedFile{}}
	slots := make(chan struct{}, runtime.NumCPU())
	var wg sync.WaitGroup
	for i, platform := range platforms {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			faults[i] = c.checkPlatform(platform)
		})
	}
	wg.Wait()
	if report(platforms, faults) > 0 {
		os.Exit(1)
	}
	fmt.Printf("ok: type-checked for %s\n", strings.Join(platforms, " "))
}

// report prints each fault once, with the platforms that have it, and counts them.
func report(platforms []string, faults [][]error) int {
	var texts []string
	on := map[string][]string{}
	for i, platform := range platforms {
		for _, err := range faults[i] {
			text := err.Error()
			if on[text] == nil {
				texts = append(texts, text)
			}
			on[text] = append(on[text], platform)
		}
	}
	for n, text := range texts {
		if n == reportedFaultsMax {
			fmt.Fprintf(os.Stderr, "and %d more\n", len(texts)-n)
			break
		}
		where := strings.Join(on[text], " ")
		if len(on[text]) == len(platforms) {
			where = "every platform"
		}
		fmt.Fprintf(os.Stderr, "%s (%s)\n", text, where)
	}
	return len(texts)
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	ImportMap  map[string]string
	Module     *struct {
		Main      bool
		GoVersion string
	}
}

func (p *listed) ours() bool { return p.Module != nil && p.Module.Main }

// checker shares parsed files between platforms; most files belong to all of them.
type checker struct {
	fset  *token.FileSet
	mu    sync.Mutex // guards files
	files map[string]*parsedFile
}

type parsedFile struct {
	once sync.Once
	file *ast.File
	err  error
}

func (c *checker) checkPlatform(platform string) []error {
	goos, goarch, ok := strings.Cut(platform, "/")
	sizes := types.SizesFor("gc", goarch)
	if !ok || sizes == nil {
		return []error{errors.New("not a platform: write GOOS/GOARCH")}
	}
	list, err := listPackages(goos, goarch)
	if err != nil {
		return []error{err}
	}
	var faults []error
	done := map[string]*types.Package{"unsafe": types.Unsafe}
	for _, p := range list { // dependencies come before their importers
		if p.ImportPath == "unsafe" {
			continue
		}
		pkg, errs := c.checkPackage(p, done, sizes)
		done[p.ImportPath] = pkg
		faults = append(faults, errs...)
	}
	return faults
}

func listPackages(goos, goarch string) ([]*listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap,Module", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list packages: %w\n%s", err, stderr.String())
	}
	var list []*listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(listed)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("cannot read the package list: %w", err)
		}
		list = append(list, p)
	}
}

func (c *checker) checkPackage(p *listed, done map[string]*types.Package, sizes types.Sizes) (*types.Package, []error) {
	var faults []error
	var files []*ast.File
	for _, name := range p.GoFiles {
		file, err := c.parse(filepath.Join(p.Dir, name), p.ours())
		if err != nil {
			faults = append(faults, err)
			continue
		}
		files = append(files, file)
	}
	conf := types.Config{
		Importer:         importFrom{done: done, mapped: p.ImportMap},
		Sizes:            sizes,
		IgnoreFuncBodies: !p.ours(),
		Error:            func(err error) { faults = append(faults, err) },
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		conf.GoVersion = "go" + p.Module.GoVersion
	}
	pkg, _ := conf.Check(p.ImportPath, c.fset, files, nil) // faults has every error
	return pkg, faults
}

func (c *checker) parse(path string, ours bool) (*ast.File, error) {
	c.mu.Lock()
	pf := c.files[path]
	if pf == nil {
		pf = new(parsedFile)
		c.files[path] = pf
	}
	c.mu.Unlock()
	pf.once.Do(func() {
		pf.file, pf.err = parser.ParseFile(c.fset, path, nil, parser.SkipObjectResolution)
		if pf.err != nil || ours {
			return
		}
		for _, decl := range pf.file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
				fn.Body = &ast.BlockStmt{Lbrace: fn.Body.Lbrace, Rbrace: fn.Body.Rbrace}
			}
		}
	})
	return pf.file, pf.err
}

// importFrom resolves imports among the packages that were checked before.
type importFrom struct {
	done   map[string]*types.Package
	mapped map[string]string
}

func (i importFrom) Import(path string) (*types.Package, error) {
	if to, ok := i.mapped[path]; ok {
		path = to
	}
	if pkg := i.done[path]; pkg != nil {
		return pkg, nil
	}
	return nil, fmt.Errorf("package %s was not listed", path)
}
