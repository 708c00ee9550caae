package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
)

// functions are those of Docker's templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":  templateJSON,
		"split": strings.Split,
		"join":  strings.Join,
		//lint:ignore SA1019 Docker's templates use it, on ASCII
		"title": strings.Title,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
		},
		"truncate": func(s string, n int) string {
			if len(s) < n {
				return s
			}
			return s[:n]
		},
	}
}

func templateJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// headerFunctions leave a column's title as it is.
func headerFunctions() template.FuncMap {
	same := func(s string, _ ...any) string { return s }
	m := template.FuncMap{}
	for name := range functions() {
		m[name] = same
	}
	// join and split may be piped to as well: the title is their last argument then.
	m["join"] = func(a ...string) string { return a[0] }
	m["split"] = m["join"]
	return m
}

// ParseTemplate parses a Go template with Docker's functions.
func ParseTemplate(format string) (*template.Template, error) {
	return template.New("").Funcs(functions()).Parse(format)
}

// Template does the same and words a failure as Docker does.
func Template(format string) (*template.Template, error) {
	t, err := ParseTemplate(format)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %w", err)
	}
	return t, nil
}

// Table writes rows by a --format as Docker does: "table TEMPLATE" with a title
// line, "json", or a template per row. A row is a pointer to a struct; its fields
// are its exported methods without arguments.
type Table struct {
	Out     io.Writer
	Format  string
	Headers Headers
}

// Headers are the columns' titles by field.
type Headers map[string]string

// Label is the title of a column with one label: its name's last part in words.
func (Headers) Label(name string) string {
	return strings.NewReplacer("-", " ", "_", " ").Replace(name[strings.LastIndexByte(name, '.')+1:])
}

// Write prints the rows.
func (t Table) Write(rows ...any) error {
	format, isTable := strings.CutPrefix(t.Format, "table")
	if t.Format == "json" {
		format = "{{json .}}"
	}
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(format, " "))
	tmpl, err := Template(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, r := range rows {
		if err := tmpl.Execute(&b, r); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		b.WriteByte('\n')
	}
	if !isTable {
		_, err := t.Out.Write(b.Bytes())
		return err
	}
	w := tabwriter.NewWriter(t.Out, 10, 1, 3, ' ', 0)
	var head bytes.Buffer
	// A template that does something else with a title than print it leaves the
	// line empty from there, as Docker's.
	_ = tmpl.Funcs(headerFunctions()).Execute(&head, t.Headers)
	head.WriteByte('\n')
	if _, err := w.Write(append(head.Bytes(), b.Bytes()...)); err != nil {
		return err
	}
	return w.Flush()
}

// MarshalRow encodes a row's fields, sorted by name: what {{json .}} prints. Rows
// call it in their MarshalJSON.
func MarshalRow(r any) ([]byte, error) {
	v := reflect.ValueOf(r)
	m := map[string]any{}
	for i := range v.NumMethod() {
		f := v.Method(i).Type()
		if f.NumIn() == 0 && f.NumOut() == 1 {
			m[v.Type().Method(i).Name] = v.Method(i).Call(nil)[0].Interface()
		}
	}
	return json.Marshal(m)
}

// Inspect prints objects for an inspect command: as one JSON array, or each by a
// template. raw are the daemon's own documents.
func Inspect(out io.Writer, format string, typed []any, raw [][]byte) error {
	if format == "" || format == "json" {
		return inspectJSON(out, format, raw)
	}
	t, err := Template(format)
	if err != nil {
		return err
	}
	var all bytes.Buffer
	var failed []error
	for i := range typed {
		var b bytes.Buffer
		if err := execute(t, &b, typed[i], raw[i]); err != nil {
			failed = append(failed, fmt.Errorf("template parsing error: %w", err))
			continue
		}
		b.WriteByte('\n')
		all.Write(b.Bytes())
	}
	if all.Len() == 0 {
		all.WriteByte('\n')
	}
	_, err = out.Write(all.Bytes())
	return errors.Join(append(failed, err)...)
}

// execute tries the typed object first and the document as maps when the template
// asks for what the type does not know: fields that only other versions have.
func execute(t *template.Template, b *bytes.Buffer, typed any, raw []byte) error {
	if t.Execute(b, typed) == nil {
		return nil
	}
	var doc any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return err
	}
	b.Reset()
	return t.Option("missingkey=error").Execute(b, doc)
}

func inspectJSON(out io.Writer, format string, raw [][]byte) error {
	var b bytes.Buffer
	if format == "json" {
		b.WriteByte('[')
		for i, r := range raw {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := json.Compact(&b, r); err != nil {
				return err
			}
		}
		b.WriteString("]\n")
		_, err := out.Write(b.Bytes())
		return err
	}
	if len(raw) == 0 {
		_, err := io.WriteString(out, "[]\n")
		return err
	}
	b.WriteByte('[')
	for i, r := range raw {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(r)
	}
	b.WriteByte(']')
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, b.Bytes(), "", "    "); err != nil {
		return err
	}
	pretty.WriteByte('\n')
	_, err := out.Write(pretty.Bytes())
	return err
}
