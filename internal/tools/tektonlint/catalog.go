package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"
)

// namespace is where the objects would lie in a cluster.
const namespace = "default"

// catalog holds the objects of the files by their names.
type catalog struct {
	stepActions map[string]*v1beta1.StepAction
	tasks       map[string]*v1.Task
	pipelines   map[string]*v1.Pipeline
	runs        map[string]*v1.PipelineRun
	// files says where an object stands, by kind and name.
	files map[string]string
}

// separator is a line between two documents of a file.
var separator = regexp.MustCompile(`(?m)^---\s*$`)

// read returns the objects of the files and what Tekton's admission webhooks would
// refuse of them.
func read(ctx context.Context, files []string) (*catalog, []string, error) {
	c := &catalog{
		stepActions: map[string]*v1beta1.StepAction{}, tasks: map[string]*v1.Task{}, pipelines: map[string]*v1.Pipeline{},
		runs: map[string]*v1.PipelineRun{}, files: map[string]string{},
	}
	var findings []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		for _, document := range separator.Split(string(text), -1) {
			if len(bytes.TrimSpace([]byte(document))) == 0 {
				continue
			}
			if err := c.add(ctx, file, []byte(document)); err != nil {
				findings = append(findings, fmt.Sprintf("%s: %v", file, err))
			}
		}
	}
	return c, findings, nil
}

// object is what every kind here can do.
type object interface {
	runtime.Object
	apis.Defaultable
	apis.Validatable
	GetName() string
	SetNamespace(string)
}

// add puts the object of a document into the catalog, whether it is valid or not.
func (c *catalog) add(ctx context.Context, file string, document []byte) error {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		return err
	}
	var made object
	switch head.APIVersion + " " + head.Kind {
	case "tekton.dev/v1beta1 StepAction":
		o := new(v1beta1.StepAction)
		defer func() { c.stepActions[o.Name] = o }()
		made = o
	case "tekton.dev/v1 Task":
		o := new(v1.Task)
		defer func() { c.tasks[o.Name] = o }()
		made = o
	case "tekton.dev/v1 Pipeline":
		o := new(v1.Pipeline)
		defer func() { c.pipelines[o.Name] = o }()
		made = o
	case "tekton.dev/v1 PipelineRun":
		o := new(v1.PipelineRun)
		defer func() { c.runs[o.Name] = o }()
		made = o
	default:
		return fmt.Errorf("%s %q is no kind of Tekton that is judged here", head.APIVersion, head.Kind)
	}
	if err := yaml.UnmarshalStrict(document, made); err != nil {
		return fmt.Errorf("%s: %w", head.Kind, err)
	}
	key := head.Kind + " " + made.GetName()
	if other, ok := c.files[key]; ok {
		return fmt.Errorf("%s is in %s too", key, other)
	}
	c.files[key] = file
	made.SetNamespace(namespace)
	made.SetDefaults(ctx)
	if err := made.Validate(ctx); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
