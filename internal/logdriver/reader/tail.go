package reader

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// openTail opens the files so that the last n entries follow; negative: all.
func (p *position) openTail(n int) error {
	if err := p.open(0); err != nil {
		return err
	}
	if n < 0 {
		return nil
	}
	if p.file != nil {
		missing, err := seekTail(p.file, n)
		if err != nil {
			return err
		}
		p.in.Reset(p.file)
		n = missing
	}
	for i := len(p.rest) - 1; i >= 0; i-- {
		if n == 0 {
			p.rest = p.rest[i+1:]
			return nil
		}
		count, err := countLines(p.rest[i].name)
		if err != nil {
			return err
		}
		if count > n {
			return p.skipInto(i, count-n)
		}
		n -= count
	}
	return nil
}

// skipInto leaves the files from index i on, of that one only what comes after the
// first skip entries. The file is unpacked to memory: at most one rotated file.
func (p *position) skipInto(i, skip int) error {
	in, err := openRotated(p.rest[i].name)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	for range skip {
		data = data[bytes.IndexByte(data, '\n')+1:]
	}
	p.rest = p.rest[i:]
	p.rest[0].tail = data
	return nil
}

const tailBlock = 64 << 10

// seekTail sets the file's offset so that n whole entries follow, and returns how
// many of n the file does not have.
func seekTail(f *os.File, n int) (missing int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	block := make([]byte, tailBlock)
	found := 0
	for pos := end; pos > 0; {
		size := min(int64(tailBlock), pos)
		pos -= size
		if _, err := f.ReadAt(block[:size], pos); err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		for i := int(size) - 1; i >= 0; i-- {
			if block[i] != '\n' {
				continue
			}
			// The newline before the n-th last entry is the one after n others.
			if found == n {
				_, err := f.Seek(pos+int64(i)+1, io.SeekStart)
				return 0, err
			}
			found++
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return n - found, err
}

func countLines(name string) (int, error) {
	in, err := openRotated(name)
	if err != nil {
		return 0, nil // removed meanwhile
	}
	defer in.Close()
	block := make([]byte, tailBlock)
	count := 0
	for {
		n, err := in.Read(block)
		count += bytes.Count(block[:n], []byte{'\n'})
		if err == io.EOF {
			return count, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read log %s: %w", name, err)
		}
	}
}
