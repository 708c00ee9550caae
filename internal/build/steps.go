package build

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
)

// step is one instruction of a Dockerfile as the classic builder counts them.
type step struct {
	text   string
	vertex bool // BuildKit does something for it; others only change the configuration
}

// stage is one FROM with what follows.
type stage struct {
	name  string
	steps []step
}

// readSteps lists the instructions of the Dockerfile, by stage. It also finds
// syntax errors before anything was sent.
func readSteps(dir string, r Request) ([]stage, error) {
	data, err := readDockerfile(dir, r.Dockerfile)
	if err != nil {
		return nil, err
	}
	ast, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("dockerfile parse error: " + err.Error())
	}
	// A Dockerfile that names a frontend of its own may hold what this parser does not
	// know; BuildKit reports what is really wrong.
	parsed, _, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		if _, _, _, ok := parser.DetectSyntax(data); ok {
			return nil, nil
		}
		return nil, errdefs.ErrInvalidArgument.WithMessage("dockerfile parse error: " + err.Error())
	}
	var out []stage
	names := map[string]bool{"scratch": true}
	for i, st := range parsed {
		s := stage{name: st.Name, steps: []step{{text: st.SourceCode, vertex: !names[strings.ToLower(st.BaseName)]}}}
		if s.name == "" {
			s.name = "stage-" + strconv.Itoa(i)
		}
		for _, c := range st.Commands {
			s.steps = append(s.steps, step{text: fmt.Sprint(c), vertex: makesVertex(c)})
		}
		names[strings.ToLower(s.name)] = true
		out = append(out, s)
	}
	return out, nil
}

func makesVertex(c instructions.Command) bool {
	switch c.(type) {
	case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
		return true
	}
	return false
}

// stepName is how BuildKit names what it does for an instruction: "[builder 2/5] RUN make".
var stepName = regexp.MustCompile(`^\[(?:(?:\S+/\S+ )?(\S+) )?\s*(\d+)/(\d+)\] `)

// stepWriter turns BuildKit's progress into the classic builder's output.
type stepWriter struct {
	stages []stage
	quiet  bool
	out    func(jsonstream.Message)

	total   int
	count   int
	told    map[string]int // by stage: how many of its steps were told
	cached  map[digest.Digest]bool
	started map[digest.Digest]bool
}

func newStepWriter(stages []stage, quiet bool, out func(jsonstream.Message)) *stepWriter {
	w := &stepWriter{stages: stages, quiet: quiet, out: out, told: map[string]int{}, cached: map[digest.Digest]bool{}, started: map[digest.Digest]bool{}}
	for _, s := range stages {
		w.total += len(s.steps)
	}
	return w
}

func (w *stepWriter) stream(text string) {
	if !w.quiet {
		w.out(jsonstream.Message{Stream: text})
	}
}

func (w *stepWriter) update(st *client.SolveStatus) {
	for _, v := range st.Vertexes {
		if v.Started != nil && !w.started[v.Digest] {
			w.started[v.Digest] = true
			w.begin(v)
		}
		if v.Cached && !w.cached[v.Digest] && stepName.MatchString(v.Name) && !strings.Contains(v.Name, "] FROM ") {
			w.cached[v.Digest] = true
			w.stream(" ---> Using cache\n")
		}
	}
	for _, l := range st.Logs {
		w.stream(string(l.Data))
	}
	for _, warning := range st.Warnings {
		w.stream("[Warning] " + string(warning.Short) + "\n")
	}
}

// begin tells the instruction behind a vertex, and those before it in its stage
// that only change the configuration.
func (w *stepWriter) begin(v *client.Vertex) {
	m := stepName.FindStringSubmatch(v.Name)
	if m == nil {
		return
	}
	s := w.stage(m[1])
	if s == nil {
		w.stream(strings.TrimSpace(v.Name) + "\n")
		return
	}
	index, err := strconv.Atoi(m[2])
	if err != nil {
		return
	}
	vertices := 0
	for i, st := range s.steps {
		if !st.vertex {
			continue
		}
		if vertices++; vertices == index {
			w.tell(s, i+1)
			return
		}
	}
}

func (w *stepWriter) stage(name string) *stage {
	for i := range w.stages {
		if w.stages[i].name == name || name == "" && len(w.stages) == 1 {
			return &w.stages[i]
		}
	}
	return nil
}

// tell writes the headers of a stage's steps up to the n-th.
func (w *stepWriter) tell(s *stage, n int) {
	for i := w.told[s.name]; i < n; i++ {
		w.count++
		w.stream(fmt.Sprintf("Step %d/%d : %s\n", w.count, w.total, s.steps[i].text))
		w.told[s.name] = i + 1
	}
}

// finish tells what is left of the stages that were built.
func (w *stepWriter) finish() {
	for i := range w.stages {
		if s := &w.stages[i]; w.told[s.name] > 0 {
			w.tell(s, len(s.steps))
		}
	}
}
